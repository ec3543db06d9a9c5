use v5.36;
use utf8;

sub train ($files, $ctx) {
    my $state = $ctx->state;
    my %seen;
    $state->set(text => 'ä');
    $seen{text} = $state->get('text');
    $state->set(bytes => Dunnage::bytes("\x00\xff"));
    $seen{length} = length $state->get('bytes');
    $state->increment('n', 2);
    $seen{sum} = $state->increment('n', 0.5);
    $seen{swapped} = $state->compare_and_set('text', 'ä', 'b');
    $seen{swapped_again} = $state->compare_and_set('text', 'ä', 'c');
    $state->delete('bytes');
    $seen{gone} = !defined $state->get('bytes');
    $seen{keys} = [map { $_->[0] } $state->scan('t')];
    return \%seen;
}

{train => \&train};
