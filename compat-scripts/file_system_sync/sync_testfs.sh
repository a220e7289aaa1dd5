#!/usr/bin/env bash
# Replicates a file system for tests between the primary and the backup node: those that
# testfs_sync_list.sh names. All about it is in sync_include.sh.
#
# usage: sync_testfs.sh
set -u

SERVICENAME=testfs
# shellcheck source-path=SCRIPTDIR source=sync_include.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/sync_include.sh"
