package Dunnage::MessagePack;

# MessagePack, as far as the protocol needs it. In Perl it looks like this:
#
#   nil          undef
#   bool         a boolean of Perl 5.36: what `==`, `!` and `builtin::true` give
#   integer      a number without a fraction
#   float        any other number
#   str          a string of characters
#   bin          a reference to a string of bytes; when read, the plain string
#   array, map   a reference to an array or a hash
#
# Perl turns strings into numbers and back as it pleases, but since 5.36 it remembers what a value was created as:
# `builtin::created_as_number` is true of 5 and false of "5", even after "5" + 1 or "$five".

use v5.36;
no warnings qw(experimental::builtin recursion);

sub encode ($value) {
    return "\xc0" unless defined $value;
    if (my $type = ref $value) {
        return sized(length $$value, [0xc4, 0xc5, 0xc6]) . $$value if $type eq 'SCALAR';
        return sized(scalar @$value, [undef, 0xdc, 0xdd], 0x90, 16) . join '', map { encode($_) } @$value if $type eq 'ARRAY';
        my @pairs = map { text($_) . encode($value->{$_}) } sort keys %$value;
        return sized(scalar @pairs, [undef, 0xde, 0xdf], 0x80, 16) . join '', @pairs if $type eq 'HASH';
        die "MessagePack has nothing for $type\n";
    }
    return $value ? "\xc3" : "\xc2" if builtin::is_bool($value);
    return text($value) unless builtin::created_as_number($value);
    # The second test keeps out floats of 1e15 and more, which Perl prints with an exponent: they may be too large.
    return integer($value) if $value == int $value && $value =~ /\A-?\d+\z/;
    return pack 'C d>', 0xcb, $value;
}

sub integer ($value) {
    return pack 'c', $value if $value >= -32 && $value < 128;
    if ($value < 0) {
        return pack 'C c', 0xd0, $value if $value >= -2**7;
        return pack 'C s>', 0xd1, $value if $value >= -2**15;
        return pack 'C l>', 0xd2, $value if $value >= -2**31;
        return pack 'C q>', 0xd3, $value;
    }
    return pack 'C C', 0xcc, $value if $value < 2**8;
    return pack 'C n', 0xcd, $value if $value < 2**16;
    return pack 'C N', 0xce, $value if $value < 2**32;
    return pack 'C Q>', 0xcf, $value;
}

# Perl's strings may hold what UTF-8 cannot say; the server would refuse the whole frame for it.
sub text ($string) {
    $string =~ s/[\x{D800}-\x{DFFF}]|[^\x{0}-\x{10FFFF}]/\x{FFFD}/g;
    utf8::encode($string);
    return sized(length $string, [0xd9, 0xda, 0xdb], 0xa0, 32) . $string;
}

# The first bytes of something with a length. `$formats` are those with 1, 2 and 4 bytes for it; lengths below
# `$below` are in the first byte itself, added to `$small`.
sub sized ($length, $formats, $small = 0, $below = 0) {
    return pack 'C', $small + $length if $length < $below;
    return pack 'C C', $formats->[0], $length if defined $formats->[0] && $length < 2**8;
    return pack 'C n', $formats->[1], $length if $length < 2**16;
    return pack 'C N', $formats->[2], $length;
}

sub decode ($bytes) {
    my $at = 0;
    my $value = read_value(\$bytes, \$at);
    die "there is something behind the value\n" if $at != length $bytes;
    return $value;
}

# Formats with a number of fixed size behind the first byte: how to unpack it, and its size.
my %number = (
    0xca => ['f>', 4], 0xcb => ['d>', 8],
    0xcc => ['C', 1], 0xcd => ['n', 2], 0xce => ['N', 4], 0xcf => ['Q>', 8],
    0xd0 => ['c', 1], 0xd1 => ['s>', 2], 0xd2 => ['l>', 4], 0xd3 => ['q>', 8],
);

# Formats with a length behind the first byte: what reads the rest, how to unpack the length, and the length's size.
my %container = (
    0xc4 => [\&take, 'C', 1], 0xc5 => [\&take, 'n', 2], 0xc6 => [\&take, 'N', 4],
    0xd9 => [\&read_text, 'C', 1], 0xda => [\&read_text, 'n', 2], 0xdb => [\&read_text, 'N', 4],
    0xdc => [\&read_array, 'n', 2], 0xdd => [\&read_array, 'N', 4],
    0xde => [\&read_map, 'n', 2], 0xdf => [\&read_map, 'N', 4],
);

sub read_value ($bytes, $at) {
    my $first = ord take($bytes, $at, 1);
    return $first if $first < 0x80;
    return read_map($bytes, $at, $first - 0x80) if $first < 0x90;
    return read_array($bytes, $at, $first - 0x90) if $first < 0xa0;
    return read_text($bytes, $at, $first - 0xa0) if $first < 0xc0;
    return $first - 0x100 if $first >= 0xe0;
    return undef if $first == 0xc0;
    return $first == 0xc3 if $first == 0xc2 || $first == 0xc3;
    if (my $format = $number{$first}) {
        my ($template, $size) = @$format;
        return unpack $template, take($bytes, $at, $size);
    }
    my $format = $container{$first} or die sprintf "there is no use for the format %#x here\n", $first;
    my ($read, $template, $size) = @$format;
    return $read->($bytes, $at, unpack $template, take($bytes, $at, $size));
}

sub read_array ($bytes, $at, $count) {
    my @array;
    push @array, read_value($bytes, $at) while $count--;
    return \@array;
}

sub read_map ($bytes, $at, $count) {
    my %map;
    while ($count--) {
        my $key = read_value($bytes, $at);
        $map{$key} = read_value($bytes, $at);
    }
    return \%map;
}

sub read_text ($bytes, $at, $length) {
    my $string = take($bytes, $at, $length);
    utf8::decode($string) or die "a text is not UTF-8\n";
    return $string;
}

sub take ($bytes, $at, $length) {
    die "the value ends early\n" if $length > length($$bytes) - $$at;
    my $taken = substr $$bytes, $$at, $length;
    $$at += $length;
    return $taken;
}

1;
