#!/usr/bin/env bash
# Replicates what is served by CIFS (Samba) between the primary and the backup node: those that
# cifs_sync_list.sh names. All about it is in sync_include.sh.
#
# usage: sync_cifs.sh
set -u

SERVICENAME=cifs
# shellcheck source-path=SCRIPTDIR source=sync_include.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/sync_include.sh"
