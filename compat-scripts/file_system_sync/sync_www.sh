#!/usr/bin/env bash
# Replicates web sites between the primary and the backup node: those that
# www_sync_list.sh names. All about it is in sync_include.sh.
#
# usage: sync_www.sh
set -u

SERVICENAME=www
# shellcheck source-path=SCRIPTDIR source=sync_include.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/sync_include.sh"
