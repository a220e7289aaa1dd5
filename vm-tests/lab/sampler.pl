#!/usr/bin/perl
# Tells the laboratory, some twenty times a second, what of the cluster's is active on this machine: addresses, mounts, services,
# applications, crontabs. It looks at what the kernel shows, never at what the daemon says, and starts no process. Each line has the
# moments before and after the look, in nanoseconds since this machine booted, so that nobody's clock of the day matters.
use strict;
use warnings;

use constant { CLOCK_GETTIME => 228, CLOCK_BOOTTIME => 7, PAUSE => 0.045 };

sub now {
    my $time = pack 'q2', 0, 0;
    syscall CLOCK_GETTIME, CLOCK_BOOTTIME, $time;
    my ($seconds, $nanoseconds) = unpack 'q2', $time;
    return $seconds * 1_000_000_000 + $nanoseconds;
}

sub content {
    my ($path) = @_;
    open my $file, '<', $path or return '';
    local $/;
    my $text = <$file>;
    return $text // '';
}

# Whether a control group has a process. One that is being stopped counts as long as there is one.
sub lives {
    my ($group) = @_;
    return content("$group/cgroup.procs") ne '';
}

my $groups = '/sys/fs/cgroup/system.slice';
open my $out, '>', '/dev/virtio-ports/org.drcm.sampler' or die "no port to the laboratory: $!";
while (1) {
    my $before = now();
    my %seen;
    for my $address (content('/proc/net/fib_trie') =~ m{\|-- (10\.77\.0\.1\d\d)\n\s+/32 host LOCAL}g) { $seen{"address:$address"} = 1 }
    for my $mount (content('/proc/self/mountinfo') =~ m{^\S+ \S+ \S+ \S+ /mnt/(\S+) }gm) { $seen{"mount:$mount"} = 1 }
    $seen{'service:nginx'} = 1 if lives("$groups/nginx.service");
    for my $scope (glob "$groups/drcm-*.scope") {
        $seen{'application:writer'} = 1 if lives($scope);
    }
    # A file that nobody reads runs nothing.
    if (lives("$groups/cron.service")) {
        for my $crontab (glob '/etc/cron.d/drcm-*') { $seen{'crontab:' . substr $crontab, 17} = 1 }
    }
    my $line = join(' ', $before, now(), sort keys %seen) . "\n";
    syswrite $out, $line;
    select undef, undef, undef, PAUSE;
}
