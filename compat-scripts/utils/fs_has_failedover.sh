#!/usr/bin/env bash
# Prints whether the cluster has failed over, so that the backup node has the file systems:
#
#   TRUE   the primary node is down, say the cluster report and a ping alike
#   FALSE  the primary node is up
#   ERROR  nothing is known: no node answers, the two contradict each other, or this side of a split network has no quorum
#
# usage: fs_has_failedover.sh
#
# The primary node is the member with the address PRIMARY_FILESYSTEMS_IP. Where that is not its keep_alive_ip, set
# PRIMARY_FILESYSTEMS_NODE in my_cluster_info.sh to its nodename or hostname. Why it is ERROR goes to standard error.
# Exit status: 0, or 1 with ERROR.
#
# Environment: as in cluster_functions.sh
set -u

# shellcheck source-path=SCRIPTDIR source=cluster_functions.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/cluster_functions.sh" || exit 1

unknown() {
    complain "ERROR: $*"
    echo ERROR
    exit 1
}

load_cluster_info || unknown "it is not said which node is the primary"
wanted=${PRIMARY_FILESYSTEMS_NODE:-$PRIMARY_FILESYSTEMS_IP}
[ -n "$wanted" ] || unknown "set PRIMARY_FILESYSTEMS_IP in $conf_dir/my_cluster_info.sh"

report=$(ask_cluster cm_stat) || unknown "no node answers"
# NAME HOSTNAME STATE IP, from the heading Members to an empty line; what is indented is a note.
# shellcheck disable=SC2016
member=$(awk -v wanted="${wanted,,}" '
    $0 == "Members" { inside = 1; next }
    $0 == "" { inside = 0 }
    inside && /^[^ ]/ && (tolower($1) == wanted || tolower($2) == wanted || tolower($NF) == wanted) { print $1, $(NF - 1) }' \
    <<< "$report")
[ -n "$member" ] || unknown "no member of the cluster is $wanted: set PRIMARY_FILESYSTEMS_NODE in $conf_dir/my_cluster_info.sh"
[[ $member != *$'\n'* ]] || unknown "more than one member of the cluster is $wanted"

case ${member##* } in
    Up) echo FALSE ;;
    Down)
        if ! grep -q '^ *quorum  *\(yes\|no majority, .* carries on alone\)' <<< "$report"; then
            unknown "the primary node is down as seen from here, but this side has no quorum: it may be us who are cut off"
        fi
        if ask_cluster ping "-n${member%% *}" -c1 > /dev/null 2>&1; then
            unknown "the report has ${member%% *} down, yet it answers"
        fi
        echo TRUE
        ;;
    *) unknown "the report does not say whether ${member%% *} is up" ;;
esac
