# What a script meets: files, requests, the context, the state, and the values that Perl has no types for.

use v5.36;

package Dunnage {
    no warnings qw(experimental::builtin recursion);

    use constant MAX_DEPTH => 100;

    # Marks a string as bytes for the state, where a plain string is text.
    sub bytes ($bytes) { return Dunnage::Bytes->new($bytes) }

    # An array of numbers for the state: array('f32', [2, 3], 1 .. 6).
    sub array ($dtype, $shape, @values) { return Dunnage::Array->new($dtype, $shape, @values) }

    # Ends this attempt at a job; the next one begins no sooner than in `$seconds`, if given.
    sub retry ($why, $seconds = undef) { die Dunnage::Error->new('script_retry', $why, $seconds) }

    # Why JSON cannot say a value, or nothing if it can.
    sub json_problem ($value, $depth = 0) {
        return "it is nested more than ${\MAX_DEPTH} deep" if $depth > MAX_DEPTH;
        if (my $type = ref $value) {
            my @parts = $type eq 'ARRAY' ? @$value : $type eq 'HASH' ? values %$value : return "JSON has nothing for $type";
            for my $part (@parts) {
                my $problem = json_problem($part, $depth + 1);
                return $problem if defined $problem;
            }
        } elsif (defined $value && builtin::created_as_number($value) && !is_finite($value)) {
            return "JSON has no number $value";
        }
        return;
    }

    sub is_finite ($number) { return $number * 0 == 0 }
}

# Bytes, for the state. Used as a string, they are the string.
package Dunnage::Bytes {
    use overload '""' => sub ($self, @) { return $$self }, fallback => 1;

    sub new ($class, $bytes) {
        utf8::downgrade($bytes, 1) or die "these are characters, not bytes; encode them first";
        return bless \$bytes, $class;
    }
}

# Numbers with a type and a shape, for the state.
package Dunnage::Array {
    my %template = (
        f32 => 'f<', f64 => 'd<', i8 => 'c', i16 => 's<', i32 => 'l<', i64 => 'q<', u8 => 'C', u16 => 'S<', u32 => 'L<', u64 => 'Q<',
    );

    sub new ($class, $dtype, $shape, @values) {
        my $template = $template{$dtype} // die "`$dtype` is no type of numbers; there are: @{[sort keys %template]}";
        my $count = 1;
        $count *= $_ for @$shape;
        die "the shape [@$shape] has $count numbers, not " . @values if $count != @values;
        return bless {dtype => $dtype, shape => [map { 0 + $_ } @$shape], data => pack "$template*", @values}, $class;
    }

    sub dtype ($self) { return $self->{dtype} }
    sub shape ($self) { return @{$self->{shape}} }
    sub values ($self) { return unpack "$template{$self->{dtype}}*", $self->{data} }
}

# What the server refuses, and how a script asks for another attempt. Used as a string, it is its message.
package Dunnage::Error {
    use overload '""' => sub ($self, @) { return $self->{message} }, fallback => 1;

    sub new ($class, $code, $message, $retry_after = undef) {
        $retry_after += 0 if defined $retry_after;
        return bless {code => $code, message => "$message", retry_after => $retry_after}, $class;
    }

    sub code ($self) { return $self->{code} }
    sub message ($self) { return $self->{message} }
    sub retry_after ($self) { return $self->{retry_after} }
}

package Dunnage::File {
    sub new ($class, $file) {
        my $path = $file->{path};
        utf8::encode($path);    # Perl's own functions want a path's bytes
        return bless {%$file, path => $path}, $class;
    }

    sub uri ($self) { return $self->{uri} }
    sub path ($self) { return $self->{path} }
    sub size ($self) { return $self->{size} }
    sub etag ($self) { return $self->{etag} }

    # A handle that reads bytes.
    sub open ($self) {
        CORE::open my $handle, '<:raw', $self->{path} or die "cannot read `$self->{uri}` from `$self->{path}`: $!";
        return $handle;
    }

    # All bytes.
    sub read ($self) {
        my $handle = $self->open;
        local $/;
        return readline $handle;
    }
}

package Dunnage::Request {
    sub new ($class, $request) {
        my $files = [map { Dunnage::File->new($_) } @{$request->{files}}];
        return bless {request_id => $request->{request_id}, files => $files, params => $request->{params} // {}}, $class;
    }

    sub request_id ($self) { return $self->{request_id} }
    sub files ($self) { return $self->{files} }
    sub params ($self) { return $self->{params} }
}

# The server and the circumstances, for the time of one call.
package Dunnage::Context {
    my %is_level = map { $_ => 1 } qw(debug info warning error);

    # `$call` is the message that began the call, or nothing while the script is being loaded.
    sub new ($class, $connection, $load, $call = {}, $params = {}) {
        my $artifact = $load->{artifact} && $load->{artifact}{path};
        utf8::encode($artifact) if defined $artifact;
        return bless {connection => $connection, load => $load, artifact => $artifact, message => $call, params => $params}, $class;
    }

    sub params ($self) { return $self->{params} }
    sub device ($self) { return $self->{load}{device} }
    sub deadline ($self) { return $self->{message}{deadline} }
    sub attempt ($self) { return $self->{message}{attempt} }
    sub seed ($self) { return $self->{message}{seed} }
    sub state ($self) { return Dunnage::State->new($self) }

    # The job's id as people write it, or nothing outside of a job.
    sub job_id ($self) {
        return $self->{message}{job};
    }

    # The folder of the active version, to be read only; nothing if there is none.
    sub artifact ($self) { return $self->{artifact} }

    # The folder for what this training makes.
    sub new_artifact ($self) {
        my $path = $self->ask('new_artifact', 'path');
        utf8::encode($path);
        return $path;
    }

    sub progress ($self, $fraction, $message = undef, %metrics) {
        my $problem = Dunnage::json_problem(\%metrics);
        die "the metrics cannot be sent: $problem" if defined $problem;
        my $progress = {call => $self->call, metrics => \%metrics};
        $progress->{fraction} = 0 + $fraction if defined $fraction;
        $progress->{message} = "$message" if defined $message;
        $self->{connection}->send(Progress => $progress) if defined $progress->{call};
    }

    sub log ($self, $message, $level = 'info') {
        die "`$level` is no level; there are debug, info, warning and error" unless $is_level{$level};
        my $call = $self->{ended} ? undef : $self->call;
        $self->{connection}->send(Log => {call => $call, level => $level, message => "$message"});
    }

    # Whether nobody waits for this call any more.
    sub cancelled ($self) {
        return 1 if $self->{ended};
        my $call = $self->call // return 0;
        return $self->{connection}->is_cancelled($call);
    }

    # Ends the call if nobody waits for it any more.
    sub stop_if_cancelled ($self) {
        die Dunnage::Error->new('script_cancelled', 'the call has been cancelled') if $self->cancelled;
    }

    # Asks the server; the value behind `$word` in its answer.
    sub ask ($self, $operation, $word) {
        my $reply = $self->{connection}->ask($self->call, $operation);
        if (my $error = $reply->{error}) {
            die Dunnage::Error->new($error->{code}, $error->{message});
        }
        my $answer = $reply->{ok};
        return if !ref $answer && $answer eq $word;
        return $answer->{$word} if ref $answer && exists $answer->{$word};
        die "the server's answer has no `$word`";
    }

    sub call ($self) {
        die 'this call has ended; its context cannot be used any more' if $self->{ended};
        return $self->{message}{call};
    }

    # Closes the context: what the script has kept of it is of no use to it any more.
    sub end ($self) {
        my $call = $self->call;
        $self->{connection}->forget_call($call) if defined $call;
        $self->{ended} = 1;
    }
}

# The service's state: a map kept by the server. Strings are text; see `Dunnage::bytes` and `Dunnage::array`.
package Dunnage::State {
    use constant PAGE => 1000;

    sub new ($class, $context) { return bless {context => $context}, $class }

    # The value of a key, or nothing.
    sub get ($self, $key) {
        return from_wire($self->{context}->ask({state_get => {key => "$key"}}, 'value'));
    }

    sub set ($self, $key, $value) {
        $self->{context}->ask({state_set => {key => "$key", value => to_wire($value)}}, 'nothing');
    }

    # Removes a key; whether it was there.
    sub delete ($self, $key) {
        return $self->{context}->ask({state_delete => {key => "$key"}}, 'flag');
    }

    # Adds to a number; the sum. An absent key counts as 0.
    sub increment ($self, $key, $by = 1) {
        die "$by cannot be added: it is not finite" unless Dunnage::is_finite($by);
        return $self->{context}->ask({state_increment => {key => "$key", by => 0 + $by}}, 'number');
    }

    # Sets a key if it has the value `$old`; whether it was set. As `$old`, nothing means absent; as `$new`, remove.
    sub compare_and_set ($self, $key, $old, $new) {
        my ($from, $to) = map { defined ? to_wire($_) : undef } $old, $new;
        return $self->{context}->ask({state_compare_and_set => {key => "$key", old => $from, new => $to}}, 'flag');
    }

    # The entries whose keys begin with `$prefix`, as pairs [key, value] in the order of the keys.
    sub scan ($self, $prefix = '') {
        my (@pairs, $after);
        while (1) {
            my $operation = {state_scan => {prefix => "$prefix", after => $after, limit => PAGE}};
            my $entries = $self->{context}->ask($operation, 'entries');
            return @pairs unless @$entries;
            push @pairs, map { [$_->{key}, from_wire($_->{value})] } @$entries;
            $after = $entries->[-1]{key};
        }
    }

    sub to_wire ($value) {
        return {bytes => \"$value"} if ref $value eq 'Dunnage::Bytes';
        return {array => {%$value, data => \$value->{data}}} if ref $value eq 'Dunnage::Array';
        my $problem = Dunnage::json_problem($value);
        die "the value cannot be kept: $problem" if defined $problem;
        return {json => $value};
    }

    sub from_wire ($value) {
        return undef unless defined $value;    # also in a list: {key => $state->get("key")}
        return Dunnage::Bytes->new($value->{bytes}) if exists $value->{bytes};
        return bless $value->{array}, 'Dunnage::Array' if exists $value->{array};
        return $value->{json};
    }
}

1;
