use v5.36;

die 'broken on purpose';
