use v5.36;

my %answer = (nested => [[1, 2]], text => 'text', nothing => undef, mixed => [1, 'a']);

{output => sub ($files, $ctx) { return $answer{$ctx->params->{case}} }};
