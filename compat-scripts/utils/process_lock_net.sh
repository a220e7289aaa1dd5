# Keeps a script from running twice at a time on several nodes: process_lock.sh, with the same lock file on other nodes, over ssh.
# Not a program: it is sourced, and has the same three functions.
#
#   LOCKfile=/var/run/drcm/my_script.lock
#   LOCKnodes="backup@192.168.122.112"
#   source /etc/drcm/utils/process_lock_net.sh
#
# The other nodes need bash, and the directory of the lock file. A node that cannot be reached cannot be locked: the script ends.
# Which process has a lock is asked of the node it is said to be on, where that is this one or one of LOCKnodes.
#
# Variables: LOCKfile   (default: run_dir/NAME.lock, after the script)
#            LOCKnodes  [USER@]HOST of every other node, separated by spaces (default: none)
#            and DRCM_SSH, DRCM_SSH_OPTIONS
# shellcheck shell=bash

lock_home=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR source=cluster_functions.sh
. "$lock_home/cluster_functions.sh" || exit 1
# shellcheck source-path=SCRIPTDIR source=process_lock.sh
. "$lock_home/process_lock.sh" || exit 1

# 0 it lives, 1 it does not, 2 not known.
lock_ask_host() {
    local host=$1 pid=$2 node answer
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    if [ "$host" = "$(uname -n)" ]; then
        lock_process_start "$pid" > /dev/null
        return
    fi
    for node in ${LOCKnodes:-}; do
        answer=$(remote "$node" 30 "uname -n; test -d /proc/$pid && echo lives" < /dev/null 2> /dev/null)
        [ "${answer%%$'\n'*}" = "$host" ] || continue
        [[ $answer == *$'\n'lives ]]
        return
    done
    return 2
}

# Runs a function of process_lock.sh on another node, in our name. Nothing of ours need be installed there.
lock_on_node() {
    local node=$1
    shift
    # shellcheck disable=SC2016
    {
        printf 'LOCKfile=%q\n' "$LOCKfile"
        cat -- "$lock_home/process_lock.sh"
        printf 'lock_me=%q\nlock_dead=%q\n' "$lock_me" "${lock_dead-none}"
        printf '%q ' "$@"
    } | remote "$node" 120 'exec bash -c "$(cat)"'
}

# The same, and once more when the one who has it turns out to be gone.
lock_persist() {
    local node=$1 holder status
    shift
    lock_on_node "$node" lock_guarded "$@"
    status=$?
    [ "$status" -eq 1 ] || return "$status"
    holder=$(remote "$node" 30 "head -c 300 -- $(printf '%q' "$LOCKfile")" < /dev/null) && [ -n "$holder" ] || return 1
    lock_ask_host "${holder%:*}" "${holder##*:}"
    [ $? -eq 1 ] || return 1
    lock_dead=$holder lock_on_node "$node" lock_guarded "$@"
}

# Ends the script when another one has the lock anywhere. MINUTES: how long it may have it.
LockFileCheck() {
    local node
    lock_guarded lock_look "${1:-60}" || exit 1
    for node in ${LOCKnodes:-}; do
        lock_persist "$node" lock_look "${1:-60}" || {
            complain "ERROR: $LOCKfile is taken on $node, or $node cannot be reached"
            exit 1
        }
    done
}

# Takes the lock everywhere, or nowhere, and then ends the script.
CreateLockFile() {
    local node
    lock_guarded lock_make || {
        complain "ERROR: $LOCKfile cannot be made"
        exit 1
    }
    for node in ${LOCKnodes:-}; do
        lock_persist "$node" lock_make || {
            complain "ERROR: $LOCKfile cannot be made on $node"
            RemoveLockFile 2> /dev/null
            exit 1
        }
    done
}

# Gives it back everywhere; locks of others stay.
RemoveLockFile() {
    local node status=0
    for node in ${LOCKnodes:-}; do
        lock_on_node "$node" lock_guarded lock_drop || {
            complain "WARNING: $LOCKfile on $node could not be given back; it counts for nothing once this script has ended"
            status=1
        }
    done
    lock_guarded lock_drop || status=1
    return "$status"
}
