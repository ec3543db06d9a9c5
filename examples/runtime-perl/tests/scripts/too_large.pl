use v5.36;

sub train ($files, $ctx) {
    $ctx->state->set(big => 'x' x 2000);
}

sub input ($files, $ctx) {
    eval { $ctx->state->set(big => 'x' x 2000) };
    return "$@";
}

{train => \&train, input => \&input};
