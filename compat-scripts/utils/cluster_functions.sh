# What the utilities and the file replication share. Not a program: it is sourced, and changes no option of the shell that
# does so.
#
# Environment: DRCM_ETC        configuration directory (default /etc/drcm)
#              DRCM_CONF_DIR   what this site filled in (default DRCM_ETC/my_cluster_conf)
#              DRCM_SERVER     the program (default: drcm_server from PATH, else /usr/sbin/drcm_server)
#              DRCM_CONFIG     configuration file (default: that of the program)
#              DRCM_IP         the ip program of iproute2 (default: from PATH)
#              DRCM_ASK_LIMIT  seconds that a question to the cluster may take (default 30)
# shellcheck shell=bash

# Where cron runs this, PATH has no sbin.
PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
drcm_etc=${DRCM_ETC:-/etc/drcm}
conf_dir=${DRCM_CONF_DIR:-$drcm_etc/my_cluster_conf}

complain() {
    printf '%s\n' "$*" >&2
}

# Puts a question to the cluster, and gives up in time.
ask_cluster() {
    local command=$1 program=${DRCM_SERVER:-}
    shift
    [ -n "$program" ] || program=$(command -v drcm_server) || program=/usr/sbin/drcm_server
    timeout --kill-after=5 "${DRCM_ASK_LIMIT:-30}" "$program" ${DRCM_CONFIG:+--config-file="$DRCM_CONFIG"} --client \
        --command="$command" "$@" < /dev/null
}

# Runs a file of shell assignments or calls, unless anybody at all could have written it. What a site wrote long ago need not
# care about unset variables.
source_conf() {
    local mode status unset=0
    mode=$(stat -L -c %a -- "$1") || return
    if (( 8#$mode & 8#002 )); then
        complain "ERROR: $1 may be written by everyone and is not run; chmod o-w $1"
        return 1
    fi
    [[ $- != *u* ]] || unset=1
    set +u
    # shellcheck source=/dev/null
    . "$1"
    status=$?
    (( ! unset )) || set -u
    return "$status"
}

# Sets the variables of my_cluster_info.sh.
load_cluster_info() {
    local file=$conf_dir/my_cluster_info.sh
    # shellcheck disable=SC2034
    PRIMARY_FILESYSTEMS_IP='' PRIMARY_FILESYSTEMS_ETH='' BACKUP_FILESYSTEMS_IP='' BACKUP_FILESYSTEMS_ETH=''
    if [ ! -f "$file" ]; then
        complain "ERROR: there is no $file: say there which node is the primary, see replication.md"
        return 1
    fi
    source_conf "$file" || {
        complain "ERROR: $file has an error"
        return 1
    }
}

# Whether this machine has the address on the interface (eth0:1 is a label on eth0).
holds_address() {
    local address=${1,,} device=${2%%:*} found
    [ -n "$address" ] && [ -n "$device" ] || return 1
    # shellcheck disable=SC2016
    found=$("${DRCM_IP:-ip}" -o address show dev "$device" 2> /dev/null |
        awk -v wanted="$address" '{ split($4, part, "/"); if (part[1] == wanted) print "yes" }')
    [ -n "$found" ]
}

# TRUE or FALSE for a role, PRIMARY or BACKUP: whether this node has it. Fails where that was never said.
print_role() {
    local address=$1_FILESYSTEMS_IP device=$1_FILESYSTEMS_ETH
    if ! load_cluster_info; then
        echo FALSE
        return 1
    fi
    if [ -z "${!address}" ] || [ -z "${!device}" ]; then
        complain "ERROR: set $address and $device in $conf_dir/my_cluster_info.sh"
        echo FALSE
        return 1
    fi
    if holds_address "${!address}" "${!device}"; then
        echo TRUE
    else
        echo FALSE
    fi
}

# Runs a command on another node: USER@HOST, seconds, then the command. Never asks anybody anything, and never waits for ever.
# DRCM_SSH is the program, DRCM_SSH_OPTIONS further options, separated by spaces.
remote() {
    local target=$1 limit=$2 options=()
    shift 2
    read -r -a options <<< "${DRCM_SSH_OPTIONS:-}"
    timeout --kill-after=5 "$limit" "${DRCM_SSH:-ssh}" "${ssh_options[@]}" ${options[@]+"${options[@]}"} -- "$target" "$@"
}
ssh_options=(-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3)

# 1, yes, true, on in any case.
is_set_to_yes() {
    case ${1,,} in
        1 | y | yes | t | true | on) return 0 ;;
        *) return 1 ;;
    esac
}

# Kills a process and its descendants with this signal.
signal_tree() {
    local children=() child
    read -r -a children 2> /dev/null < "/proc/$2/task/$2/children"
    kill -s "$1" "$2" 2> /dev/null
    for child in ${children[@]+"${children[@]}"}; do
        signal_tree "$1" "$child"
    done
}

# Runs a program for so many seconds at most: 124 when it did not come back. One that hangs in the kernel, on a dead mount, is
# left behind; timeout(1) would wait for it.
bounded() {
    local limit=$1 pid deadline
    shift
    (exec "$@") &
    pid=$!
    deadline=$(( SECONDS + limit ))
    while kill -0 "$pid" 2> /dev/null; do
        if (( SECONDS > deadline )); then
            signal_tree KILL "$pid"
            disown "$pid" 2> /dev/null
            return 124
        fi
        sleep 0.05
    done
    wait "$pid" 2> /dev/null
}

# Writes a file as a whole or not at all.
write_whole() {
    local target=$1 content=$2 temporary
    temporary=$target.new.$$
    if printf '%s\n' "$content" > "$temporary" && mv -f -- "$temporary" "$target"; then
        return
    fi
    rm -f -- "$temporary"
    return 1
}
