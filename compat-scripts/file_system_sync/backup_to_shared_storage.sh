#!/usr/bin/env bash
# Copies the directories that backup_storage_list.sh names to the storage server, from the node that has the file systems: the
# primary, or after a failover the backup node. Meant for cron of BACKUP_USER, on both nodes.
#
# usage: backup_to_shared_storage.sh
#
# They go to BACKUP_STORAGE_LOCATION/CLUSTER_NAME/DIRECTORY on BACKUP_STORAGE_SERVER, which BACKUP_USER logs in to by ssh.
# BACKUP_STORAGE_LOCATION must exist there. The list has the same lines as those of the sync scripts.
# Exit status: 0 done, or it is not the turn of this node; 1 else.
#
# Variables: those of my_cluster_info.sh, replicate.sh
set -u

SERVICENAME=backup_storage
# shellcheck source-path=SCRIPTDIR source=replicate.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/replicate.sh" || exit 1

may_go_on() {
    return 0
}

prepare
for name in CLUSTER_NAME BACKUP_STORAGE_SERVER BACKUP_STORAGE_LOCATION; do
    [ -n "${!name:-}" ] || give_up "set $name in $conf_dir/my_cluster_info.sh"
done
[[ $CLUSTER_NAME =~ ^[A-Za-z0-9_.-]+$ && $CLUSTER_NAME != .* ]] || give_up "CLUSTER_NAME is no name for a directory: $CLUSTER_NAME"
[[ $BACKUP_STORAGE_LOCATION == /?* ]] || give_up "BACKUP_STORAGE_LOCATION is no absolute path: $BACKUP_STORAGE_LOCATION"

if [ -n "$PRIMARY_FILESYSTEMS_IP" ]; then
    state=$("$utils_dir/fs_has_failedover.sh")
    case $state in
        FALSE) role=PRIMARY ;;
        TRUE) role=BACKUP ;;
        *) give_up "it is not known whether the cluster has failed over, so nothing is copied" ;;
    esac
    address=${role}_FILESYSTEMS_IP device=${role}_FILESYSTEMS_ETH
    if ! holds_address "${!address}" "${!device}"; then
        say "The file systems are on the other node, which copies them"
        exit 0
    fi
fi

# shellcheck disable=SC2034
{
    peer_login=$BACKUP_USER@$BACKUP_STORAGE_SERVER
    peer_rsync_host=$BACKUP_STORAGE_SERVER
    peer_prefix=${BACKUP_STORAGE_LOCATION%/}/$CLUSTER_NAME
    peer_make=1
    LOCKfile=$run_dir/$SERVICENAME.lock
}
# shellcheck source-path=SCRIPTDIR source=../utils/process_lock.sh
. "$utils_dir/process_lock.sh" || exit 1
LockFileCheck "${SYNC_LOCK_MINUTES:-1440}"
CreateLockFile
trap RemoveLockFile EXIT
trap 'exit 1' HUP INT TERM

elsewhere "$peer_login" 90 mount_points unmounted target_problem -- target_problem "$BACKUP_STORAGE_LOCATION" 0 \
    || give_up "$BACKUP_STORAGE_LOCATION on $BACKUP_STORAGE_SERVER cannot be used"
run_lists backup_storage_list
(( failures == 0 )) || give_up "$failures of $asked directories could not be copied to $BACKUP_STORAGE_SERVER"
say "$asked directories copied to $BACKUP_STORAGE_SERVER"
