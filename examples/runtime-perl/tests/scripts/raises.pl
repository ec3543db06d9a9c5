use v5.36;

sub output ($files, $ctx) {
    die 'boom' if $ctx->params->{fail};
    return [1];
}

{output => \&output};
