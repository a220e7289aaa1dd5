#!/usr/bin/env bash
# Replicates what is served by NFS between the primary and the backup node: those that
# nfs_sync_list.sh names. All about it is in sync_include.sh.
#
# usage: sync_nfs.sh
set -u

SERVICENAME=nfs
# shellcheck source-path=SCRIPTDIR source=sync_include.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/sync_include.sh"
