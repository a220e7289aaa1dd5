#!/usr/bin/env bash
# Replicates the directories of PostgreSQL between the primary and the backup node: those that
# pgsql_sync_list.sh names. All about it is in sync_include.sh.
#
# usage: sync_pgsql.sh
set -u

SERVICENAME=pgsql
# shellcheck source-path=SCRIPTDIR source=sync_include.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/sync_include.sh"
