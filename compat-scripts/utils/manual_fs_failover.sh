#!/usr/bin/env bash
# Fails the file systems over by hand, on the primary node: brings the copies of the backup node up to date, then stops the
# cluster service here, so that the backup node takes over.
#
# usage: manual_fs_failover.sh [--yes]      --yes does not ask
#
# Run it as root, or from an account that may use sudo. To fail back, start the service again.
# Exit status: 0 failed over, 1 not, 2 wrong usage.
#
# Environment: DRCM_SYNC_DIR  the sync scripts (default DRCM_ETC/file_system_sync)
#              and as in cluster_functions.sh
set -u

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR source=cluster_functions.sh
. "$here/cluster_functions.sh" || exit 1

refuse() {
    complain "ERROR: $*"
    complain "Nothing was failed over."
    exit 1
}

ask=1
case ${1:-} in
    '') ;;
    --yes) ask=0 ;;
    *)
        echo "usage: ${0##*/} [--yes]" >&2
        exit 2
        ;;
esac

# Runs a command as another user.
as_user() {
    local user=$1
    shift
    if [ "$(id -un)" = "$user" ]; then
        "$@"
    elif [ "$(id -u)" -eq 0 ]; then
        runuser -u "$user" -- "$@"
    else
        sudo -u "$user" -- "$@"
    fi
}

load_cluster_info || refuse "it is not said which node is the primary"
[ -n "${BACKUP_USER:-}" ] || refuse "set BACKUP_USER in $conf_dir/my_cluster_info.sh"
sync_dir=${DRCM_SYNC_DIR:-$drcm_etc/file_system_sync}

echo "Checking that this is the primary node"
[ "$("$here/is_primary_fs.sh")" = TRUE ] || refuse "this node does not have $PRIMARY_FILESYSTEMS_IP on $PRIMARY_FILESYSTEMS_ETH"
echo "Checking that the cluster has not failed over"
state=$("$here/fs_has_failedover.sh")
[ "$state" = FALSE ] || refuse "fs_has_failedover.sh says $state"
echo "Checking that the backup node can be reached"
as_user "$BACKUP_USER" bash -c ". $(printf '%q' "$here/cluster_functions.sh"); remote $(printf '%q' \
    "${CLUSTER_BACKUP_USER:-$BACKUP_USER}@$BACKUP_FILESYSTEMS_IP") 30 true < /dev/null" \
    || refuse "$BACKUP_USER cannot log in to $BACKUP_FILESYSTEMS_IP by ssh without a password"

if (( ask )); then
    printf 'Fail over to the backup node %s now? Its services move there. (yes/no) ' "$BACKUP_FILESYSTEMS_IP"
    read -r answer || answer=no
    case ${answer,,} in
        y | yes) ;;
        *) refuse "not confirmed" ;;
    esac
fi

failed=()
for script in "$sync_dir"/sync_*.sh; do
    [ -x "$script" ] || continue
    echo "Running ${script##*/}"
    as_user "$BACKUP_USER" "$script" < /dev/null || failed+=("${script##*/}")
done
(( ${#failed[@]} == 0 )) || refuse "the copies are not up to date: ${failed[*]} failed"

echo "Stopping drcm_server"
if [ -d "${DRCM_SYSTEMD_RUN_DIR:-/run/systemd/system}" ]; then
    as_user root systemctl stop drcm_server
else
    as_user root service drcm_server stop
fi || refuse "drcm_server did not stop"
echo "Done: the backup node takes over. To fail back, start drcm_server on this node."
