#!/usr/bin/env bash
# Sends the cluster report to those in cm_alert_list.sh unless it ends with "Cluster status: HEALTHY". Meant for cron.
#
# usage: watch_cluster.sh
#
# Exit status: 0 the cluster is well, 1 it is not.
#
# Environment: as in cluster_functions.sh and send_alert.sh
set -u

# shellcheck source-path=SCRIPTDIR source=send_alert.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/send_alert.sh" || exit 1

report=$(ask_cluster cm_stat 2>&1)
if grep -q -x 'Cluster status: HEALTHY' <<< "$report"; then
    # Written at the first run, to be filled in before it is needed.
    alert_lists
    exit 0
fi
name=''
if [ -f "$conf_dir/my_cluster_info.sh" ] && load_cluster_info; then
    name=${CLUSTER_NAME:-}
fi
status=$(grep '^Cluster status: ' <<< "$report" | tail -n 1)
status=${status#Cluster status: }
send_alert "[!ACTION!] Cluster alert ${name:+$name, }$(uname -n): ${status:-no report could be had}" "${report:-drcm_server said nothing}"
exit 1
