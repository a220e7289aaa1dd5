# What nfs.sh and cifs.sh share. Not a program: it is sourced, by a script that has set `source` and `target` and defines
# mount_it.
#
# The rule of this file: nothing here waits for a network mount. The kernel's mount table is read, the mount itself is only
# touched by a child in the background, and a child that does not come back is left behind.
#
# Environment: DRCM_MOUNT_TIMEOUT  seconds that mount and umount may take (default 30)
#              DRCM_STALE_TIMEOUT  seconds without an answer after which a mount is stale (default 5)
#              DRCM_TERM_GRACE     seconds between TERM and KILL for who uses a mount that must go (default 3)
# shellcheck shell=bash disable=SC2154

mount_timeout=${DRCM_MOUNT_TIMEOUT:-30}
stale_timeout=${DRCM_STALE_TIMEOUT:-5}
term_grace=${DRCM_TERM_GRACE:-3}

fail() {
    echo "ERROR: $*" >&2
    exit 1
}

# Kills a process and its descendants; none of them is waited for.
kill_tree() {
    local children child
    read -r -a children 2> /dev/null < "/proc/$1/task/$1/children"
    kill -KILL "$1" 2> /dev/null
    for child in ${children[@]+"${children[@]}"}; do
        kill_tree "$child"
    done
}

# Runs a program in the background, for so many seconds at most. 124 when it did not come back: it has been killed with all it
# started, and is left behind in case that it cannot even die.
bounded() {
    local limit=$1 pid deadline
    shift
    # exec, since our functions have the names of programs, and so that $! is the program.
    (exec "$@") &
    pid=$!
    deadline=$(( SECONDS + limit ))
    while kill -0 "$pid" 2> /dev/null; do
        if (( SECONDS > deadline )); then
            kill_tree "$pid"
            disown "$pid" 2> /dev/null
            return 124
        fi
        sleep 0.05
    done
    wait "$pid" 2> /dev/null
}

# A word of the mount table as it was before the kernel wrote space and the like as \040.
plain() {
    printf '%b' "${1//\\/\\0}"
}

# host:/dir/ and //host/share/ name the same as without the last slash.
same_source() {
    local one=${1%/} other=${2%/}
    [ "$one" = "$other" ]
}

# The source of what is mounted on the target (the last one: it hides the others); fails when nothing is.
mounted_source() {
    local line words at from found=1 answer=
    while IFS= read -r line; do
        read -r -a words <<< "$line"
        at=$(plain "${words[4]-}")
        [ "$at" = "$target" ] || continue
        from=${line##* - }
        read -r -a words <<< "$from"
        answer=$(plain "${words[1]-}")
        found=0
    done < <(grep -F -- " ${escaped_target} " /proc/self/mountinfo)
    [ "$found" -eq 0 ] && printf '%s\n' "$answer"
    return "$found"
}

is_mounted() {
    local from
    from=$(mounted_source) && same_source "$from" "$source"
}

# Whether the mount has stopped to answer. Looked at by a child, since looking may never end. "Permission denied" is an answer:
# a server that does not let root in is alive.
is_stale() {
    # shellcheck disable=SC2016
    local look='export LC_ALL=C
        error=$( { stat -f -- "$1" && stat -- "$1/."; } 2>&1 > /dev/null ) && exit 0
        case $error in *"Permission denied"*) exit 0 ;; esac
        exit 1'
    ! bounded "$stale_timeout" bash -c "$look" look "$target" > /dev/null 2>&1 < /dev/null
}

# Processes with their working directory, root, program or an open file below the target. Reading where these links point
# touches no file system but /proc.
users() {
    local pattern=$target
    pattern=${pattern//\\/\\\\}
    pattern=${pattern//\*/\\*}
    pattern=${pattern//\?/\\?}
    pattern=${pattern//\[/\\[}
    find /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe /proc/[0-9]*/fd -maxdepth 1 -type l \
        \( -lname "$pattern" -o -lname "$pattern/*" \) 2> /dev/null \
        | cut -d / -f 3 | sort -u | grep -v -x -e 1 -e "$$"
}

signal_users() {
    local pid name told=1
    for pid in $(users); do
        name=$(tr '\0' ' ' < "/proc/$pid/comm" 2> /dev/null)
        echo "$target is used by $name (process $pid): $1"
        kill -s "$1" "$pid" 2> /dev/null
        told=0
    done
    return "$told"
}

# -c: else umount itself looks at the mount, and hangs with it.
unmount_once() {
    bounded "$mount_timeout" umount -c "$@" -- "$target" < /dev/null
    ! mounted_source > /dev/null
}

# Plain first; then without those who use it; then by force; then out of sight.
unmount() {
    local waited
    if ! mounted_source > /dev/null; then
        echo "nothing is mounted on $target"
        return
    fi
    if unmount_once 2> /dev/null; then
        echo "unmounted $target"
        return
    fi
    if signal_users TERM; then
        for (( waited = 0; waited < term_grace * 10; waited++ )); do
            [ -z "$(users)" ] && break
            sleep 0.1
        done
        signal_users KILL && sleep 0.2
    fi
    if unmount_once 2> /dev/null; then
        echo "unmounted $target, after ending those who used it"
    elif unmount_once -f; then
        echo "unmounted $target by force"
    elif unmount_once -l; then
        echo "WARNING: took $target out of sight (lazy unmount): something still holds it" >&2
    else
        fail "cannot unmount $target"
    fi
}

mount() {
    local there
    if there=$(mounted_source); then
        if ! same_source "$there" "$source"; then
            fail "$target is taken: $there is mounted there, not $source"
        fi
        if ! is_stale; then
            echo "$source is mounted on $target already"
            return
        fi
        echo "$source on $target is stale, mounting it anew"
        unmount
    fi
    if [ ! -d "$target" ]; then
        mkdir -p -- "$target" || fail "cannot make the directory $target"
    fi
    mount_it || fail "cannot mount $source on $target"
    is_mounted || fail "mount said yes, but $source is not on $target"
    echo "mounted $source on $target"
}

# Quiet while all is well: it runs every check interval.
watch() {
    if is_mounted; then
        is_stale || return 0
        echo "$source on $target is stale, mounting it anew"
        unmount
    else
        echo "$source is not mounted on $target, mounting it"
    fi
    mount
}

# Carries out one action of the contract.
act() {
    # So that nobody, ourselves included, is found using the target because of where we were started.
    cd / || exit 1
    case $target in
        / | //*) fail "$target is not for us to mount on" ;;
        /*) ;;
        *) fail "$target is not an absolute path" ;;
    esac
    [ "$target" = "${target%/}" ] || target=${target%/}
    # As the kernel writes it.
    escaped_target=${target//\\/\\134}
    escaped_target=${escaped_target// /\\040}
    escaped_target=${escaped_target//$'\t'/\\011}
    escaped_target=${escaped_target//$'\n'/\\012}
    escaped_target=${escaped_target//\#/\\043}
    case $1 in
        mount) mount ;;
        unmount | umount) unmount ;;
        remount)
            unmount
            mount
            ;;
        watch) watch ;;
        *) usage ;;
    esac
}
