#!/usr/bin/perl
# The application of the tests: appends numbered lines to a file of a mount, each with fsync, and only when that has succeeded tells
# the client of the laboratory, by a datagram, that the line is safe. What was acknowledged so may never be lost.
#
# usage: writer FILE CLIENT PORT
use strict;
use warnings;
use IO::Handle;
use Socket qw(AF_INET SOCK_DGRAM inet_aton pack_sockaddr_in);

my ($path, $client, $port) = @ARGV;
socket my $socket, AF_INET, SOCK_DGRAM, 0 or die "socket: $!";
my $to = pack_sockaddr_in($port, inet_aton($client));
chomp(my $node = `uname -n`);
# Two lives of one node never write the same line.
my $life = time . ".$$";
open my $file, '>>', $path or die "$path: $!";
for (my $number = 1; ; $number++) {
    my $line = "$node $life $number";
    # A line that fails was not acknowledged; the next try has a number of its own.
    if (defined syswrite $file, "$line\n" and $file->sync) {
        send $socket, $line, 0, $to;
    }
    select undef, undef, undef, 0.1;
}
