#!/usr/bin/env bash
# Starts a service of this node that does not run, and tells those in cm_alert_list.sh. Meant for cron, and for services that are
# not a resource of the cluster: it watches those itself.
#
# usage: watch_service.sh service
#
# Exit status: 0 it runs, 1 it did not (even if it does now), 2 wrong usage.
#
# Environment: DRCM_SERVICE_SCRIPT  what starts it (default DRCM_ETC/resources/service.sh)
#              and as in cluster_functions.sh and send_alert.sh
set -u

usage() {
    echo "usage: ${0##*/} service" >&2
    exit 2
}

[ $# -eq 1 ] || usage
service=$1
case $service in
    '' | -* | */* | .*) usage ;;
esac

# shellcheck source-path=SCRIPTDIR source=send_alert.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/send_alert.sh" || exit 1
script=${DRCM_SERVICE_SCRIPT:-$drcm_etc/resources/service.sh}
# One message for each service: that one of them is down must not hide another.
alert_files || exit 1
TIMEFILE=$VARdir/alert_service_${service}_last_sent
INITFILE=$VARdir/alert_service_${service}_init

bounded 60 "$script" "$service" status > /dev/null 2>&1 && exit 0
said=$(bounded 300 "$script" "$service" watch 2>&1)
if bounded 60 "$script" "$service" status > /dev/null 2>&1; then
    outcome="it runs again"
else
    outcome="it does NOT run"
fi
send_alert "[!ACTION!] Service $service on $(uname -n): $outcome" "Service $service did not run on $(uname -n) at $(date). It was started: $outcome.

$said"
exit 1
