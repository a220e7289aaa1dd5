#!/usr/bin/env bash
# Replicates all other directories between the primary and the backup node: those that
# other_sync_list.sh names. All about it is in sync_include.sh.
#
# usage: sync_other.sh
set -u

SERVICENAME=other
# shellcheck source-path=SCRIPTDIR source=sync_include.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/sync_include.sh"
