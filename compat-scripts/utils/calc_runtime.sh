#!/usr/bin/env bash
# Prints how long something took, in words. To run, or to source for its function.
#
# usage: calc_runtime.sh START [END]      both in seconds since 1970; END is now when it is left out
#        calc_runtime START [END]
#
# Exit status: 0 done, 2 wrong usage.

calc_runtime() {
    local begin=${1:-} end=${2:-$(date +%s)} seconds
    if ! [[ $begin =~ ^[0-9]+$ && $end =~ ^[0-9]+$ ]] || (( end < begin )); then
        echo "usage: calc_runtime.sh START [END], in seconds since 1970, END not before START" >&2
        return 2
    fi
    seconds=$(( end - begin ))
    echo "Runtime: $(( seconds / 3600 )) hours $(( seconds / 60 % 60 )) minutes $(( seconds % 60 )) seconds"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -u
    calc_runtime "$@"
fi
