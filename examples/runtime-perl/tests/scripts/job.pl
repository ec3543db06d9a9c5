use v5.36;

sub train ($files, $ctx) {
    return {files => scalar @$files, x => $ctx->params->{x}};
}

sub input ($files, $ctx) {
    die 'no input today' if $ctx->params->{fail};
    return;
}

{train => \&train, input => \&input};
