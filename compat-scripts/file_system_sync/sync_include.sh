# 2-way replication between the primary and the backup node. Not a program: the sync scripts set SERVICENAME and source it, and it
# does the work. From cron of BACKUP_USER: every few minutes on the primary, every minute on the backup node.
#
#   primary, cluster as it should be     the directories of NAME_sync_list.sh go to the backup node
#   backup, the primary is down          a failback flag is written, here and (when it can be reached) on the primary
#   backup, the primary is up again      when there is a flag the directories go back to the primary, and the flags are removed;
#                                        else nothing
#   primary, while a flag stands         nothing: the newer files are on the other side
#
# The flag is run_dir/NAME_failback_sync_flag, with the time in seconds since 1970. Its copy in spool_dir outlives a reboot, and says
# in its second line since when the primary is down.
#
# Whatever is not known for certain means that nothing is copied. Exit status: 0 done, or there was nothing to do; 1 else.
#
# Variables (my_cluster_info.sh), beside those of replicate.sh:
#   CLUSTER_BACKUP_USER    login on the other node (default BACKUP_USER)
#   FAILBACK_SAVE_DIR      directory on the primary that gets, with a failback, every file that is replaced or deleted there
#                          (default: none is kept)
#   SYNC_CONFIRM_SECONDS   how long the primary must be down before that counts (default 10)
# shellcheck shell=bash

# shellcheck source-path=SCRIPTDIR source=replicate.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/replicate.sh" || exit 1

prepare
run_flag=$run_dir/${SERVICENAME}_failback_sync_flag
spool_flag=$spool_dir/${SERVICENAME}_failback_sync_flag
# When the primary last found itself in office.
active_file=$spool_dir/${SERVICENAME}_primary_active
# Minutes after which a flag that still stands is trouble.
flag_limit=60
# Clocks of two machines may differ by so much, in seconds.
clock_difference=120

# TRUE, FALSE or ERROR, with the reason of the latter in the log.
failed_over() {
    local state reason=$run_dir/${SERVICENAME}_reason.$$
    state=$("$utils_dir/fs_has_failedover.sh" 2> "$reason")
    [ "$state" != ERROR ] || say_error "$(sed 's/^ERROR: //' "$reason")"
    rm -f -- "$reason"
    printf '%s' "$state"
}

local_flag() {
    [ -e "$run_flag" ] || [ -e "$spool_flag" ]
}

# What the other node has: "none" or a time in seconds since 1970; fails when that cannot be known.
peer_flag() {
    local answer
    answer=$(remote "$peer_login" 60 "cat $(printf '%q %q' "$run_flag" "$spool_flag") 2> /dev/null | head -n 1; echo known" \
        < /dev/null) || return 1
    case $answer in
        known) echo none ;;
        *known) echo "${answer%%$'\n'*}" ;;
        *) return 1 ;;
    esac
}

# Ends what the primary is sending here just now: it is older than what is going to be written here.
end_incoming() {
    local process
    for process in /proc/[0-9]*; do
        if [ -O "$process" ] && tr '\0' '\n' 2> /dev/null < "$process/environ" | grep -q -x "DRCM_SYNC_INTO=$SERVICENAME"; then
            say "ending process ${process#/proc/}, which receives files from the primary"
            kill "${process#/proc/}" 2> /dev/null
        fi
    done
}

write_flags() {
    local now began text
    now=$(date +%s)
    began=$(sed -n 2p "$spool_flag" 2> /dev/null)
    [[ $began =~ ^[0-9]+$ ]] || began=$now
    if ! write_whole "$spool_flag" "$now"$'\n'"$began" || ! write_whole "$run_flag" "$now"; then
        give_up_loudly "the failback flag cannot be written, so nothing keeps the primary, once it is back, from overwriting the" \
            "newer files here: make room on $spool_dir and $run_dir"
    fi
    text="printf '%s\n' $now > $(printf '%q' "$run_flag"); printf '%s\n' $now $began > $(printf '%q' "$spool_flag")"
    if remote "$peer_login" 20 "$text" < /dev/null 2> /dev/null; then
        say "wrote the failback flag for $SERVICENAME files on both nodes"
    else
        say "wrote the failback flag for $SERVICENAME files here; the primary cannot be reached"
    fi
}

# Before each directory: is this still the right direction?
may_go_on() {
    if [ "$role" = primary ] && local_flag; then
        say_error "a failback flag has appeared: stopping here"
        return 1
    fi
    if [ "$role" = backup ] && ! local_flag; then
        say_error "the failback flag has gone: stopping here"
        return 1
    fi
}

take_lock() {
    LOCKfile=$run_dir/sync_$SERVICENAME.lock
    # shellcheck disable=SC2034
    LOCKnodes=$peer_login
    # shellcheck source-path=SCRIPTDIR source=../utils/process_lock_net.sh
    . "$utils_dir/process_lock_net.sh" || exit 1
    LockFileCheck "${SYNC_LOCK_MINUTES:-1440}"
    CreateLockFile
    trap 'RemoveLockFile' EXIT
    trap 'exit 1' HUP INT TERM
}

# Sets flag: "none", or the time of the flag on either node.
look_for_flag() {
    if local_flag; then
        flag=$(cat -- "$run_flag" "$spool_flag" 2> /dev/null | head -n 1)
    elif ! flag=$(peer_flag); then
        # Cut off and in office: the backup node must know of that before it brings anything back.
        write_whole "$active_file" "$(date +%s)"
        give_up "it is not known whether the backup node has a failback flag, so nothing is replicated"
    fi
}

# Ends the run when a flag says that the newer files are on the other node.
respect_flag() {
    local age
    look_for_flag
    [ "$flag" != none ] || return 0
    [[ $flag =~ ^[0-9]{1,12}$ ]] || flag=0
    age=$(( ($(date +%s) - 10#$flag) / 60 ))
    if (( age >= flag_limit )); then
        give_up_loudly "a failback flag for $SERVICENAME files has stood for $age minutes: the backup node has newer files and has" \
            "not brought them back. Look there why $0 fails. Only if the files of this node are the right ones, remove" \
            "$run_flag and $spool_flag on both nodes"
    fi
    say "The backup node has newer $SERVICENAME files, and brings them back"
    say "No file sync to backup cluster node will be performed"
    exit 0
}

as_primary() {
    local state flag
    peer_login=${CLUSTER_BACKUP_USER:-$BACKUP_USER}@$BACKUP_FILESYSTEMS_IP
    peer_rsync_host=${BACKUP_FILESYSTEMS_RSYNC_IP:-$BACKUP_FILESYSTEMS_IP}
    state=$(failed_over)
    case $state in
        FALSE) ;;
        TRUE)
            say "The cluster has failed over to the backup node"
            say "No file sync to backup cluster node will be performed"
            return
            ;;
        *) give_up "it is not known whether the cluster has failed over, so nothing is replicated" ;;
    esac
    respect_flag
    write_whole "$active_file" "$(date +%s)" || give_up "$active_file cannot be written"
    take_lock
    # The backup node may have written one before it saw the lock.
    respect_flag
    run_lists "${SERVICENAME}_sync_list"
    finish "to the backup node"
}

as_backup() {
    local state began active before
    peer_login=${CLUSTER_BACKUP_USER:-$BACKUP_USER}@$PRIMARY_FILESYSTEMS_IP
    peer_rsync_host=${PRIMARY_FILESYSTEMS_RSYNC_IP:-$PRIMARY_FILESYSTEMS_IP}
    state=$(failed_over)
    if [ "$state" = TRUE ]; then
        # A daemon that is only being restarted is back by then.
        sleep "${SYNC_CONFIRM_SECONDS:-10}"
        state=$(failed_over)
        if [ "$state" = TRUE ]; then
            end_incoming
            write_flags
            return
        fi
    fi
    [ "$state" = FALSE ] || give_up "it is not known whether the cluster has failed over, so nothing is replicated"
    say "Checking to see if failback sync flag exists"
    if ! local_flag; then
        say "We have no sync flag for $SERVICENAME files"
        say "No file sync to primary cluster node will be performed"
        return
    fi
    say "We have a sync flag for $SERVICENAME files"
    take_lock
    before=$(cat -- "$spool_flag" 2> /dev/null)
    began=$(sed -n 2p "$spool_flag" 2> /dev/null)
    active=$(remote "$peer_login" 60 "cat $(printf '%q' "$active_file") 2> /dev/null; true" < /dev/null) \
        || give_up "the primary cannot be reached, so nothing is replicated"
    if [[ $began =~ ^[0-9]{1,12}$ && $active =~ ^[0-9]{1,12}$ ]] && (( active > began + clock_difference )); then
        give_up_loudly "both nodes have had the $SERVICENAME files since $(date -d "@$began"): the network was split, so each may have" \
            "what the other lacks. Nothing is replicated until you have decided. To bring the files of the backup node to the" \
            "primary: rm $active_file there. To keep those of the primary: rm $run_flag $spool_flag on both nodes"
    fi
    if [ -n "${FAILBACK_SAVE_DIR:-}" ]; then
        extra_options=(--backup "--backup-dir=$FAILBACK_SAVE_DIR/$SERVICENAME/$(date +%Y%m%d-%H%M%S)")
    fi
    run_lists "${SERVICENAME}_sync_list"
    if (( failures == 0 )); then
        # It may be down again by now, and what is written here since then has not been copied.
        if [ "$(failed_over)" != FALSE ] || [ "$(cat -- "$spool_flag" 2> /dev/null)" != "$before" ]; then
            give_up "the primary has been down again meanwhile: the flag stays"
        fi
        # Theirs first: while ours stands they do not begin.
        remote "$peer_login" 60 "rm -f -- $(printf '%q %q %q' "$run_flag" "$spool_flag" "$active_file")" < /dev/null \
            || give_up "the flag on the primary could not be removed; this is tried again"
        rm -f -- "$run_flag" "$spool_flag" || give_up "the flag here could not be removed"
    fi
    finish "back to the primary node"
}

finish() {
    (( failures == 0 )) || give_up "$failures of $asked directories of $SERVICENAME could not be replicated $1"
    say "$asked directories of $SERVICENAME replicated $1"
}

for name in PRIMARY_FILESYSTEMS_IP PRIMARY_FILESYSTEMS_ETH BACKUP_FILESYSTEMS_IP BACKUP_FILESYSTEMS_ETH; do
    [ -n "${!name}" ] || give_up "set $name in $conf_dir/my_cluster_info.sh"
done
role=none
if holds_address "$PRIMARY_FILESYSTEMS_IP" "$PRIMARY_FILESYSTEMS_ETH"; then role=primary; fi
if holds_address "$BACKUP_FILESYSTEMS_IP" "$BACKUP_FILESYSTEMS_ETH"; then
    [ "$role" = none ] || give_up "this node has both $PRIMARY_FILESYSTEMS_IP and $BACKUP_FILESYSTEMS_IP: name an address of each" \
        "node itself, not a floating one"
    role=backup
fi
case $role in
    primary) as_primary ;;
    backup) as_backup ;;
    none) give_up "this node has neither $PRIMARY_FILESYSTEMS_IP on $PRIMARY_FILESYSTEMS_ETH nor $BACKUP_FILESYSTEMS_IP on" \
        "$BACKUP_FILESYSTEMS_ETH" ;;
esac
