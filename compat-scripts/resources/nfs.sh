#!/usr/bin/env bash
# Mounts, unmounts and watches an NFS file system.
#
# usage: nfs.sh host:dir target mount|unmount|remount|watch
#
# mount succeeds when it is mounted and answers, unmount when nothing is mounted there (umount is taken for it as well). watch
# mounts it when it is not, and anew when it has gone stale; it never waits for a dead server.
# Exit status: 0 done, 1 failed, 2 wrong usage.
#
# Environment: DRCM_MOUNT_OPTIONS  mount options, comma separated
#              DRCM_MOUNT_TYPE     file system type (default nfs)
#              and those of mount_functions.sh
set -u

usage() {
    echo "usage: ${0##*/} host:dir target mount|unmount|remount|watch" >&2
    exit 2
}

mount_it() {
    bounded "$mount_timeout" mount -t "${DRCM_MOUNT_TYPE:-nfs}" ${DRCM_MOUNT_OPTIONS:+-o "$DRCM_MOUNT_OPTIONS"} \
        -- "$source" "$target" < /dev/null
}

# shellcheck source-path=SCRIPTDIR source=mount_functions.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/mount_functions.sh" || exit 1

[ $# -eq 3 ] || usage
source=$1
target=$2
case $source in
    *:/*) ;;
    *) usage ;;
esac
act "$3"
