# Keeps a script from running twice at a time on this machine. Not a program: it is sourced.
#
#   LOCKfile=/var/run/drcm/my_script.lock
#   source /etc/drcm/utils/process_lock.sh
#   LockFileCheck 60      # ends the script when another one runs; one that runs for more than 60 minutes is ended instead
#   CreateLockFile        # ends the script when another one was quicker
#   ...
#   RemoveLockFile
#
# The lock file holds "host:pid". It counts for nothing once that process is gone, even if another has got its number since.
# A lock of another host (the file is on a shared file system) counts until it is as old as LockFileCheck was told.
# A script that is ended by us ends with status 1.
#
# Variables: LOCKfile  (default: run_dir/NAME.lock, after the script)
# shellcheck shell=bash

LOCKfile=${LOCKfile:-${DRCM_RUN_DIR:-/var/run/drcm}/$(basename -- "$0").lock}
# Its other locks may be made for several nodes: process_lock_net.sh uses what is below as well.
lock_me=$(uname -n):$$

# The start of a process in seconds since 1970; nothing when there is none.
lock_process_start() {
    local stat booted words
    { read -r stat < "/proc/$1/stat"; } 2> /dev/null || return 1
    read -r -a words <<< "${stat##*) }"
    # A zombie runs nothing any more.
    [ "${words[0]}" != Z ] || return 1
    booted=$(awk '$1 == "btime" { print $2 }' /proc/stat)
    echo "$(( booted + words[19] / $(getconf CLK_TCK) ))"
}

# Whether a process of this machine lives that is old enough to have written the file. Two seconds for rounding.
lock_process_lives() {
    local pid=$1 written=$2 started
    [[ $pid =~ ^[0-9]+$ ]] && started=$(lock_process_start "$pid") && (( started <= written + 2 ))
}

# Whether a process of another host lives: 0 yes, 1 no, 2 not known.
lock_ask_host() {
    return 2
}

# Ends a process and all it has started, first politely.
lock_end_process() {
    local pid=$1 tree=() next=("$1") child children waited
    while (( ${#next[@]} )); do
        child=${next[0]}
        next=(${next[@]+"${next[@]:1}"})
        tree+=("$child")
        children=()
        read -r -a children 2> /dev/null < "/proc/$child/task/$child/children"
        next+=(${children[@]+"${children[@]}"})
    done
    kill -TERM "${tree[@]}" 2> /dev/null
    for (( waited = 0; waited < 100; waited++ )); do
        kill -0 "${tree[@]}" 2> /dev/null || return 0
        sleep 0.1
    done
    kill -KILL "${tree[@]}" 2> /dev/null
    sleep 0.5
    ! lock_process_start "$pid" > /dev/null
}

# Nothing while the lock is free (left behind ones are removed); else says who has it, and fails. With the guard held.
lock_look() {
    local minutes=$1 holder written age
    [ -e "$LOCKfile" ] || return 0
    holder=$(head -c 300 -- "$LOCKfile" 2> /dev/null)
    case $holder in
        "$lock_me") return 0 ;;
        # What process_lock_net.sh has found out.
        "${lock_dead-none}")
            rm -f -- "$LOCKfile"
            return
            ;;
    esac
    written=$(stat -c %Y -- "$LOCKfile" 2> /dev/null) || return 0
    age=$(( ($(date +%s) - written) / 60 ))
    if [ "${holder%:*}" = "$(uname -n)" ]; then
        if lock_process_lives "${holder##*:}" "$written"; then
            if [ -z "$minutes" ] || (( age < minutes )); then
                echo "$holder has had $LOCKfile for $age minutes" >&2
                return 1
            fi
            echo "$holder has had $LOCKfile for $age minutes, which is too long: ending it" >&2
            lock_end_process "${holder##*:}" || {
                echo "ERROR: $holder cannot be ended" >&2
                return 1
            }
        fi
    else
        lock_ask_host "${holder%:*}" "${holder##*:}"
        case $? in
            0)
                echo "$holder has had $LOCKfile for $age minutes, and runs" >&2
                return 1
                ;;
            1) ;;
            *)
                if [ -z "$minutes" ] || (( age < minutes )); then
                    echo "$holder has had $LOCKfile for $age minutes; whether it still runs is not known here" >&2
                    return 1
                fi
                ;;
        esac
    fi
    rm -f -- "$LOCKfile"
}

# Runs one of these functions while no other process does. The guard is a file of its own, which is never removed.
lock_guarded() {
    (
        exec 8>> "$LOCKfile.guard" || exit 2
        flock -w 60 8 || exit 2
        # Nothing that is started here may keep it.
        "$@" 8>&-
    )
}

lock_make() {
    lock_look '' || return 1
    echo "$lock_me" > "$LOCKfile.$$" && mv -f -- "$LOCKfile.$$" "$LOCKfile"
}

lock_drop() {
    if [ "$(head -c 300 -- "$LOCKfile" 2> /dev/null)" = "$lock_me" ]; then
        rm -f -- "$LOCKfile"
    fi
}

# Ends the script when another one has the lock. MINUTES: how long it may have it.
LockFileCheck() {
    lock_guarded lock_look "${1:-60}" || exit 1
}

# Takes the lock, or ends the script.
CreateLockFile() {
    lock_guarded lock_make || {
        echo "ERROR: $LOCKfile cannot be made" >&2
        exit 1
    }
}

# Gives it back; a lock of others stays.
RemoveLockFile() {
    lock_guarded lock_drop
}
