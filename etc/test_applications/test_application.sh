#!/usr/bin/env bash
# An application to try a cluster with: writes a line every second that says on which node it runs, until it is stopped.
#
# usage: test_application.sh NAME start|stop|ensure|status
#
# NAME.log and NAME.pid are in TEST_APPLICATION_DIR (default: ~/.drcm_test). ensure starts it when it does not run.
# Exit status: 0 done (status: it runs), 1 failed (status: it does not run), 2 wrong usage.
set -u

usage() {
    echo "usage: ${0##*/} NAME start|stop|ensure|status" >&2
    exit 2
}

[ $# -eq 2 ] || usage
[[ $1 =~ ^[A-Za-z0-9_-]+$ ]] || usage
name=$1
directory=${TEST_APPLICATION_DIR:-$HOME/.drcm_test}
mkdir -p -- "$directory" || exit 1
pid_file=$directory/$name.pid

runs() {
    local pid
    pid=$(cat -- "$pid_file" 2> /dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] && tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline" | grep -q -F "test_application $name "
}

start() {
    if runs; then
        return
    fi
    # shellcheck disable=SC2016
    setsid bash -c 'while :; do echo "$(date) $1 on $(uname -n)"; sleep 1; done' "test_application $name" "$name" \
        >> "$directory/$name.log" 2>&1 < /dev/null &
    echo "$!" > "$pid_file"
    echo "$name started"
}

stop() {
    if runs; then
        kill "$(cat -- "$pid_file")" || exit 1
    fi
    rm -f -- "$pid_file"
    echo "$name stopped"
}

case $2 in
    start | ensure) start ;;
    stop) stop ;;
    status) runs ;;
    *) usage ;;
esac
