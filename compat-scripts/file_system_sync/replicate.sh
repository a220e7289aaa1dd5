# Copies directories to another machine, for the sync scripts and backup_to_shared_storage.sh. Not a program: it is sourced.
#
# Owns RsyncMirror and RsyncCopy and all that keeps them from doing harm: an empty, missing or unmounted source is not copied, an
# unmounted target is not filled, and nothing waits for ever. Never decides in which direction anything goes: whoever sources it
# sets peer_login (USER@HOST), peer_rsync_host, peer_prefix (in front of every target) and peer_make (1: targets are made).
#
# Variables (my_cluster_info.sh):
#   DRCM_RUN_DIR         locks and flags (default /var/run/drcm)
#   DRCM_SPOOL_DIR       what must survive a boot (default /var/spool/drcm)
#   DRCM_LOG_DIR         sync_NAME.log (default /var/log/drcm; not written where that cannot be)
#   SYNC_RSYNC_OPTIONS   further options of rsync, separated by spaces (default "-H --numeric-ids")
#   SYNC_MAX_DELETE      files that one mirror may delete at most (default: no limit)
#   SYNC_TIMEOUT         seconds without any progress after which rsync gives up (default 300)
#   SYNC_LOCK_MINUTES    how long one run may take (default 1440)
#   DRCM_RSYNC           the program (default rsync)
# shellcheck shell=bash

sync_home=$(dirname -- "${BASH_SOURCE[0]}")
utils_dir=${DRCM_UTILS_DIR:-$sync_home/../utils}
# shellcheck source-path=SCRIPTDIR source=../utils/cluster_functions.sh
. "$utils_dir/cluster_functions.sh" || exit 1
load_cluster_info || exit 1

run_dir=${DRCM_RUN_DIR:-/var/run/drcm}
spool_dir=${DRCM_SPOOL_DIR:-/var/spool/drcm}
log_file=${DRCM_LOG_DIR:-/var/log/drcm}/sync_$SERVICENAME.log
# Bytes; then it begins anew, and one old log is kept.
log_limit=5000000
peer_login='' peer_rsync_host='' peer_prefix='' peer_make=0
# What the lists have asked for, and what of it was not done.
asked=0 failures=0
# More options for every rsync, and a check before each.
extra_options=()

note() {
    { printf '%(%Y-%m-%d %H:%M:%S)T %s\n' -1 "$*" >> "$log_file"; } 2> /dev/null || true
}

say() {
    printf '%s\n' "$*"
    note "$*"
}

say_error() {
    printf 'ERROR: %s\n' "$*" >&2
    note "ERROR: $*"
}

give_up() {
    say_error "$*"
    exit 1
}

# Tells those in cm_alert_list.sh as well, once every four hours.
give_up_loudly() {
    (
        # shellcheck source-path=SCRIPTDIR source=../utils/send_alert.sh
        . "$utils_dir/send_alert.sh" || exit 1
        alert_files || exit 1
        TIMEFILE=$VARdir/alert_sync_${SERVICENAME}_last_sent
        INITFILE=$VARdir/alert_sync_${SERVICENAME}_init
        send_alert "[!ACTION!] Replication of $SERVICENAME on $(uname -n) needs you" "$*"
    ) > /dev/null
    give_up "$*"
}

# The user, and the directories that are written to.
prepare() {
    local directory size
    [[ $SERVICENAME =~ ^[A-Za-z0-9_-]+$ ]] || give_up "no name for a set of file systems: $SERVICENAME"
    [ -n "${BACKUP_USER:-}" ] || give_up "set BACKUP_USER in $conf_dir/my_cluster_info.sh"
    [ "$(id -un)" = "$BACKUP_USER" ] || give_up "only $BACKUP_USER (BACKUP_USER in $conf_dir/my_cluster_info.sh) may run this"
    for directory in "$run_dir" "$spool_dir"; do
        if [ ! -d "$directory" ]; then
            mkdir -p -- "$directory" 2> /dev/null
        fi
        [ -w "$directory" ] || give_up "$BACKUP_USER cannot write to $directory: let it, or name other directories by DRCM_RUN_DIR" \
            "and DRCM_SPOOL_DIR in $conf_dir/my_cluster_info.sh, the same on both nodes"
    done
    size=$(stat -c %s -- "$log_file" 2> /dev/null) || size=0
    if (( size > log_limit )); then
        mv -f -- "$log_file" "$log_file.1" 2> /dev/null
    fi
    command -v "${DRCM_RSYNC:-rsync}" > /dev/null || give_up "rsync is missing; install it"
}

# Runs the lists that exist: the one for all nodes, then the one for this one. Writes the first when it is missing.
run_lists() {
    local list=$conf_dir/$1.sh host_list
    host_list=$conf_dir/$(uname -n)_$1.sh
    if [ ! -e "$list" ]; then
        write_whole "$list" "# What is replicated by $(basename -- "$0"). One line for each directory, the same on both nodes:
#
# RsyncMirror /directory        an exact copy: what is deleted here is deleted there
# RsyncCopy /directory          what is deleted here is kept there
#
# Put quotes around a name with spaces. Further words are options of rsync:
# RsyncMirror \"/srv/my files\" --exclude=/cache/" || give_up "$list cannot be written: let $BACKUP_USER write to $conf_dir"
        echo "wrote $list: say there what is to be replicated" >&2
        note "wrote $list"
    fi
    for list in "$list" "$host_list"; do
        [ -e "$list" ] || continue
        if ! source_conf "$list" && (( failures == 0 )); then
            say_error "$list has an error"
            failures=$(( failures + 1 ))
        fi
    done
}

# Mount points, one a line, from the kernel's table. What has a line feed in its name is left out.
mount_points() {
    local words
    while read -r -a words; do
        printf '%b\n' "${words[4]//\\/\\0}"
    done < /proc/self/mountinfo
}

# What /etc/fstab wants to be mounted at, above or below a directory and is not. Says what, and fails.
unmounted() {
    local directory=$1 words point points
    [ -r /etc/fstab ] || return 0
    points=$(mount_points)
    while read -r -a words; do
        point=$(printf '%b' "${words[1]-}")
        case ${words[0]-}:${words[3]-} in
            '#'* | :* | *noauto*) continue ;;
        esac
        case $point in
            / | none | swap | '') continue ;;
        esac
        [[ $directory/ == "$point"/* || $point/ == "$directory"/* ]] || continue
        grep -q -x -F -- "$point" <<< "$points" && continue
        echo "$point is not mounted, although /etc/fstab has it"
        return 1
    done < /etc/fstab
}

# The mount that a directory is on, and those below it.
mounts_of() {
    local directory=$1 point on=/
    while IFS= read -r point; do
        if [[ $directory/ == "$point"/* ]] && (( ${#point} > ${#on} )); then
            on=$point
        elif [[ $point/ == "$directory"/* ]]; then
            echo "$point"
        fi
    done < <(mount_points)
    echo "$on"
}

# Says where a source really is; or what is wrong with it, and fails.
source_problem() {
    local directory=$1 something
    if [ ! -d "$directory" ]; then
        echo "there is no directory $directory"
        return 1
    fi
    unmounted "$directory" || return 1
    something=$(find "$directory/" -mindepth 1 -maxdepth 1 ! -name lost+found -print -quit) || {
        echo "$directory cannot be read"
        return 1
    }
    if [ -z "$something" ]; then
        echo "$directory is empty here, which is taken for a mistake: put something into it if it is none"
        return 1
    fi
    readlink -f -- "$directory"
}

# Says what is wrong with a target, and fails. Runs there.
target_problem() {
    local directory=$1 make=$2
    if [ "$make" = 1 ]; then
        mkdir -p -- "$directory" || return 1
    fi
    if [ ! -d "$directory" ] || [ ! -w "$directory" ]; then
        echo "there is no directory $directory there that $(id -un) may write to: make it first"
        return 1
    fi
    unmounted "$directory"
}

# Runs functions of ours, named before --, on the other machine; or in a child here that may hang, when the place is "here".
elsewhere() {
    local place=$1 limit=$2 functions=() said status
    shift 2
    while [ "$1" != -- ]; do
        functions+=("$1")
        shift
    done
    shift
    # shellcheck disable=SC2016
    if [ "$place" = here ]; then
        # Not through a pipe: one that hangs would keep it open.
        said=$run_dir/.said.$SERVICENAME.$$
        bounded "$limit" bash -c "$(declare -f "${functions[@]}"); $(printf '%q ' "$@")" < /dev/null > "$said" 2>&1
        status=$?
        cat -- "$said"
        rm -f -- "$said"
        return "$status"
    else
        { declare -f "${functions[@]}" && printf '%q ' "$@"; } | remote "$place" "$limit" 'exec bash -c "$(cat)"'
    fi
}

# What was mounted at the last good run must be mounted still. Says what is not, and fails.
mounts_lost() {
    local record=$1 now=$2 point
    [ -e "$record" ] || return 0
    while IFS= read -r point; do
        grep -q -x -F -- "$point" <<< "$now" && continue
        echo "$point was mounted at the last run and is not now; if that is right, remove $record"
        return 1
    done < "$record"
}

# One directory: mirror or copy, the directory, options of rsync.
replicate() {
    local mode=$1 directory=$2 problem place options=() shell record now host status said
    shift 2
    asked=$(( asked + 1 ))
    failures=$(( failures + 1 ))
    [[ $directory == / ]] || directory=${directory%/}
    case $directory in
        / | *//* | */../* | */.. | */./* | */. | *$'\n'*) problem=1 ;;
        /*) problem=0 ;;
        *) problem=1 ;;
    esac
    if [ "$problem" = 1 ]; then
        say_error "not a directory to replicate: $directory"
        return 1
    fi
    may_go_on || return 1
    # Looked at by a child: a dead mount may never answer.
    place=$(elsewhere here 60 mount_points unmounted source_problem -- source_problem "$directory")
    status=$?
    if (( status )); then
        (( status == 124 )) && place="it does not answer"
        say_error "$directory is not replicated: ${place:-it cannot be looked at}"
        return 1
    fi
    record=$spool_dir/sync_${SERVICENAME}_mounts_${directory//\//%}
    now=$(mounts_of "$place")
    if ! problem=$(mounts_lost "$record" "$now"); then
        say_error "$directory is not replicated: $problem"
        return 1
    fi
    if ! problem=$(elsewhere "$peer_login" 90 mount_points unmounted target_problem -- target_problem \
        "$peer_prefix$directory" "$peer_make"); then
        say_error "$directory is not replicated: ${problem:-${peer_login#*@} cannot be reached}"
        return 1
    fi

    read -r -a options <<< "${SYNC_RSYNC_OPTIONS--H --numeric-ids}"
    [ "$mode" != mirror ] || options+=(--delete-delay)
    [ "$mode" != mirror ] || [ -z "${SYNC_MAX_DELETE:-}" ] || options+=("--max-delete=$SYNC_MAX_DELETE")
    shell="${DRCM_SSH:-ssh} ${ssh_options[*]} ${DRCM_SSH_OPTIONS:-}"
    host=$peer_rsync_host
    [[ $host != *:* ]] || host=[$host]
    say "$mode of $directory to $peer_rsync_host"
    # The name in the environment is how the other side finds what it is receiving, see end_incoming.
    said=$("${DRCM_RSYNC:-rsync}" -a -s --timeout="${SYNC_TIMEOUT:-300}" ${options[@]+"${options[@]}"} \
        ${extra_options[@]+"${extra_options[@]}"} "$@" -e "$shell" --rsync-path="env DRCM_SYNC_INTO=$SERVICENAME rsync" \
        -- "$directory/" "${peer_login%@*}@$host:$peer_prefix$directory/" 2>&1 < /dev/null)
    status=$?
    # 24: files that were deleted meanwhile.
    if (( status != 0 && status != 24 )); then
        [ -z "$said" ] || say_error "$(tail -n 10 <<< "$said")"
        say_error "$directory is not replicated: rsync ended with $status"
        return 1
    fi
    write_whole "$record" "$now" || say_error "$record cannot be written"
    failures=$(( failures - 1 ))
}

# For the lists. RsyncMirror deletes on the target what is not here, RsyncCopy does not.
RsyncMirror() {
    replicate mirror "$@"
}

RsyncCopy() {
    replicate copy "$@"
}
