#!/usr/bin/env bash
# Ends rsync processes of this user that have run for too long: those that hang on a host that went away.
#
# usage: clean_rsync_procs.sh [MINUTES]      default 240
#
# Exit status: 0 none is left, 1 some cannot be ended, 2 wrong usage.
set -u

minutes=${1:-240}
if [ $# -gt 1 ] || ! [[ $minutes =~ ^[0-9]{1,7}$ ]]; then
    echo "usage: ${0##*/} [MINUTES]" >&2
    exit 2
fi

# Their numbers; of this user only, also when that is root.
overdue() {
    ps -u "$(id -u)" -o pid=,etimes=,stat=,comm= |
        awk -v most="$(( 10#$minutes * 60 ))" '$4 == "rsync" && $3 !~ /^Z/ && $2 >= most { print $1 }'
}

pids=$(overdue)
[ -n "$pids" ] || exit 0
for signal in TERM KILL; do
    for pid in $pids; do
        echo "ending rsync process $pid (SIG$signal)"
        kill -s "$signal" "$pid" 2> /dev/null
    done
    for (( waited = 0; waited < 50; waited++ )); do
        pids=$(overdue)
        [ -n "$pids" ] || exit 0
        sleep 0.1
    done
done
echo "ERROR: these rsync processes cannot be ended: ${pids//$'\n'/ }" >&2
exit 1
