package Dunnage::Connection;

# The worker's end of the socket: frames, and whom they are for. There is one reader, so whoever waits for something
# reads, and puts aside what is meant for others: replies, cancellations, calls.

use v5.36;
use Dunnage::MessagePack;
use Errno qw(EINTR);

use constant {PREFIX_BYTES => 12, MAX_HEADER_BYTES => 16 << 20, MAX_PAYLOAD_BYTES => 256 << 20};

my %kind_of = (
    Hello => 101, Loaded => 102, LoadFailed => 103, Outputs => 104, Done => 105, Ask => 106, Progress => 107, Log => 108,
);
my %name_of = (1 => 'Load', 2 => 'Output', 3 => 'Run', 4 => 'Reply', 5 => 'Cancel');

# Takes over descriptor 3. Programs that the script starts do not inherit it: Perl closes whatever is beyond `$^F` for them.
sub inherited ($class) {
    open my $socket, '+<&=', 3 or die "descriptor 3 is not open; `dunnage serve` starts this program\n";
    -S $socket or die "descriptor 3 is no socket; `dunnage serve` starts this program\n";
    return bless {socket => $socket, buffer => '', calls => [], replies => {}, cancelled => {}, last_ask => 0}, $class;
}

# Sends one message whole. Dies, with nothing sent, if it does not fit a frame.
sub send ($self, $name, $message, $payload = '') {
    my $header = Dunnage::MessagePack::encode($message);
    my ($header_bytes, $payload_bytes) = (length $header, length $payload);
    die "the message has $header_bytes bytes; at most " . MAX_HEADER_BYTES . " fit a frame\n" if $header_bytes > MAX_HEADER_BYTES;
    die "the vectors have $payload_bytes bytes; at most " . MAX_PAYLOAD_BYTES . " fit a frame\n" if $payload_bytes > MAX_PAYLOAD_BYTES;
    my $frame = pack('V V v v', $header_bytes, $payload_bytes, $kind_of{$name}, 0) . $header . $payload;
    my $sent = 0;
    while ($sent < length $frame) {
        my $count = syswrite $self->{socket}, $frame, length($frame) - $sent, $sent;
        $sent += $count // ($! == EINTR ? 0 : abandon("cannot write to the server: $!"));
    }
}

# Waits for the next call (or the load): its name and its fields. Nothing when the server has closed the connection.
sub next_call ($self) {
    while (!@{$self->{calls}}) {
        $self->read_frame or return;
    }
    return shift @{$self->{calls}};
}

# Asks the server and waits for its reply.
sub ask ($self, $call, $operation) {
    my $ask = ++$self->{last_ask};
    $self->send(Ask => {ask => $ask, call => $call, operation => $operation});
    while (!exists $self->{replies}{$ask}) {
        $self->read_frame or abandon('the server is gone');
    }
    return delete $self->{replies}{$ask};
}

# Whether a call has been cancelled, as far as the server has said so by now. Does not wait.
sub is_cancelled ($self, $call) {
    while ($self->is_readable) {
        $self->read_frame or abandon('the server is gone');
    }
    return exists $self->{cancelled}{$call};
}

sub forget_call ($self, $call) {
    delete $self->{cancelled}{$call};
}

sub is_readable ($self) {
    return 1 if length $self->{buffer};
    vec(my $readable = '', fileno $self->{socket}, 1) = 1;
    return select($readable, undef, undef, 0) > 0;
}

# Reads one frame and puts its message where it belongs. False at the end of the connection.
sub read_frame ($self) {
    $self->fill(PREFIX_BYTES) or return 0;
    my ($header_bytes, $payload_bytes, $kind, $zero) = unpack 'V V v v', $self->{buffer};
    abandon('a frame is too long') if $header_bytes > MAX_HEADER_BYTES || $payload_bytes > MAX_PAYLOAD_BYTES;
    abandon('a frame is garbled') if $zero != 0;
    $self->fill(PREFIX_BYTES + $header_bytes + $payload_bytes);
    my $header = substr $self->{buffer}, PREFIX_BYTES, $header_bytes;
    substr $self->{buffer}, 0, PREFIX_BYTES + $header_bytes + $payload_bytes, '';
    my $name = $name_of{$kind} // abandon("a frame has the unknown kind $kind");
    my $message = eval { Dunnage::MessagePack::decode($header) } // abandon("the header of a `$name` cannot be read: $@");
    if ($name eq 'Reply') {
        $self->{replies}{$message->{ask}} = $message;
    } elsif ($name eq 'Cancel') {
        $self->{cancelled}{$message->{call}} = 1;
    } else {
        push @{$self->{calls}}, [$name, $message];
    }
    return 1;
}

# Reads until the buffer holds so many bytes. False if the connection ends before the first of them.
sub fill ($self, $length) {
    while (length $self->{buffer} < $length) {
        my $count = sysread $self->{socket}, $self->{buffer}, 65536, length $self->{buffer};
        if (!defined $count) {
            abandon("cannot read from the server: $!") if $! != EINTR;
        } elsif ($count == 0) {
            abandon('the connection ended within a frame') if length $self->{buffer};
            return 0;
        }
    }
    return 1;
}

# Without a server there is nothing left to do. An exception would not do: the script might catch it.
sub abandon ($why) {
    print STDERR "dunnage-perl: $why\n";
    exit 1;
}

1;
