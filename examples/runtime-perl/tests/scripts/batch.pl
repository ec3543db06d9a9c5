use v5.36;

sub output_batch ($requests, $ctx) {
    die 'this batch fails' if grep { $_->params->{fail} } @$requests;
    return [map { [$_->params->{x}, scalar @$requests] } @$requests];
}

{output_batch => \&output_batch};
