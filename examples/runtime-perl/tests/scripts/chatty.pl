use v5.36;

sub train ($files, $ctx) {
    say 'a printed line';
    $ctx->progress(0.5, 'half', loss => 0.25);
    $ctx->log('a warning', 'warning');
    return;
}

{train => \&train};
