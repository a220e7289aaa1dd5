#!/usr/bin/env bash
# Replicates the directories of MySQL or MariaDB between the primary and the backup node: those that
# mysql_sync_list.sh names. All about it is in sync_include.sh.
#
# usage: sync_mysql.sh
set -u

SERVICENAME=mysql
# shellcheck source-path=SCRIPTDIR source=sync_include.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/sync_include.sh"
