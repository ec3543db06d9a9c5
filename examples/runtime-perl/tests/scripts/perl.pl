# What is particular to Perl: values that must come back as they were, and ways to end a job.
use v5.36;

my %train = (
    params => sub ($ctx) { return $ctx->params },
    state => sub ($ctx) {
        my $state = $ctx->state;
        $state->set(array => Dunnage::array('f32', [2, 2], 1, 2.5, -3, 0));
        my $array = $state->get('array');
        my $same = $state->compare_and_set('array', $array, undef);
        return {dtype => $array->dtype, shape => [$array->shape], values => [$array->values], same => $same};
    },
    retry => sub ($ctx) { Dunnage::retry('not yet', 30) },
    code => sub ($ctx) { return {function => \&CORE::die} },
    deep => sub ($ctx) {
        my $deep = [];
        $deep = [$deep] for 1 .. 1000;
        return $deep;
    },
    infinite => sub ($ctx) { return [9**9**9] },
    long => sub ($ctx) { return 'x' x (17 << 20) },
    surrogate => sub ($ctx) { return chr(0xd800) . 'b' },
    children => sub ($ctx) { return system("test -S /dev/fd/3") == 0 },
    stop => sub ($ctx) {
        $ctx->progress(undef, 'waiting');
        $ctx->stop_if_cancelled while 1;
    },
);

my $kept;

{
    train => sub ($files, $ctx) { return $train{$ctx->params->{case}}->($ctx) },
    input => sub ($files, $ctx) {
        return $kept->state->get('text') if $kept;
        $kept = $ctx;
        return;
    },
};
