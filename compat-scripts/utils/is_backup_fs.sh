#!/usr/bin/env bash
# Prints TRUE when this node has the backup file systems, that is, has BACKUP_FILESYSTEMS_IP on BACKUP_FILESYSTEMS_ETH;
# else FALSE. Both are set in my_cluster_info.sh.
#
# usage: is_backup_fs.sh
#
# Exit status: 0, or 1 when they are not set (FALSE is printed, too).
set -u

# shellcheck source-path=SCRIPTDIR source=cluster_functions.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/cluster_functions.sh" || exit 1
print_role BACKUP
