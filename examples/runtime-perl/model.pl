# A small model: it learns the mean and the variance of the numbers in text files, and answers how far other files are
# from what it has learned.
#
#   train   learns from files of numbers, separated by white space or commas
#   input   counts the numbers it is shown
#   output  [mean, variance, distance], where the distance is that of the means in learned standard deviations;
#           without it while nothing has been learned

use v5.36;
use Scalar::Util qw(looks_like_number);

my $learned;

sub setup ($ctx) {
    my $folder = $ctx->artifact // return;
    my $path = "$folder/moments.txt";
    open my $file, '<', $path or die "cannot read `$path`: $!";
    my ($mean, $variance) = split ' ', readline $file;
    $learned = {mean => $mean, variance => $variance};
}

sub train ($files, $ctx) {
    my @numbers;
    for my $index (0 .. $#$files) {
        push @numbers, numbers($files->[$index]);
        $ctx->progress(($index + 1) / @$files, $files->[$index]->uri, numbers => scalar @numbers);
    }
    my ($mean, $variance) = moments(@numbers);
    my $path = $ctx->new_artifact . '/moments.txt';
    open my $file, '>', $path or die "cannot write `$path`: $!";
    printf $file "%.17g %.17g\n", $mean, $variance;
    close $file or die "cannot write `$path`: $!";
    return {mean => $mean, variance => $variance, numbers => scalar @numbers};
}

sub input ($files, $ctx) {
    my $seen = map { numbers($_) } @$files;
    return {seen => $ctx->state->increment('seen', $seen)};
}

sub output ($files, $ctx) {
    my ($mean, $variance) = moments(map { numbers($_) } @$files);
    return [$mean, $variance] unless $learned;
    my $deviation = sqrt $learned->{variance};
    return [$mean, $variance, $deviation > 0 ? abs($mean - $learned->{mean}) / $deviation : 0];
}

sub numbers ($file) {
    return grep { looks_like_number($_) } split /[\s,]+/, $file->read;
}

# Welford's way: it needs one pass, and does not lose precision when the mean is far from 0.
sub moments (@numbers) {
    die 'there is no number in these files' unless @numbers;
    my ($count, $mean, $sum) = (0, 0, 0);
    for my $number (@numbers) {
        my $difference = $number - $mean;
        $mean += $difference / ++$count;
        $sum += $difference * ($number - $mean);
    }
    return ($mean, $sum / $count);
}

{setup => \&setup, train => \&train, input => \&input, output => \&output};
