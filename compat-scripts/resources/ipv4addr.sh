#!/usr/bin/env bash
# Adds or removes a floating address.
#
# usage: ipv4addr.sh address netmask-or-prefix interface start|stop
#
# The interface may carry a label (eth0:1). start adds the address, announces it to the network where arping is installed, and
# succeeds when the address is there already. stop removes it, whatever its prefix length, and succeeds when it is not there.
# An IPv6 address is taken as well.
# Exit status: 0 done, 1 failed, 2 wrong usage.
#
# Environment: DRCM_IP      the ip program of iproute2 (default: from PATH)
#              DRCM_ARPING  the arping program (default: from PATH; an empty value announces nothing)
set -u

ip_program=${DRCM_IP:-ip}
arping_program=${DRCM_ARPING-arping}

usage() {
    echo "usage: ${0##*/} address netmask-or-prefix interface start|stop" >&2
    exit 2
}

fail() {
    echo "ERROR: $*" >&2
    exit 1
}

# 255.255.255.0 -> 24; 24 -> 24; nothing for what is neither.
prefix_length() {
    local mask=$1 octet length=0 ended=0
    if [[ $mask =~ ^[0-9]{1,3}$ ]]; then
        (( 10#$mask <= max_prefix )) && echo "$(( 10#$mask ))"
        return
    fi
    [[ $mask =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$ ]] || return
    for octet in "${BASH_REMATCH[@]:1}"; do
        octet=$(( 10#$octet ))
        if (( ended && octet != 0 )); then
            return
        fi
        case $octet in
            255) length=$(( length + 8 )) ;;
            254) length=$(( length + 7 )); ended=1 ;;
            252) length=$(( length + 6 )); ended=1 ;;
            248) length=$(( length + 5 )); ended=1 ;;
            240) length=$(( length + 4 )); ended=1 ;;
            224) length=$(( length + 3 )); ended=1 ;;
            192) length=$(( length + 2 )); ended=1 ;;
            128) length=$(( length + 1 )); ended=1 ;;
            0) ended=1 ;;
            *) return ;;
        esac
    done
    echo "$length"
}

# address/prefix of every entry of the address on the device.
entries() {
    "$ip_program" -o "$family" address show dev "$device" 2> /dev/null | awk -v wanted="$address" '
        { split($4, part, "/"); if (part[1] == wanted) print $4 }'
}

# Two programs go by the name of arping, with different options for the same thing.
announce() {
    [ "$family" = -4 ] && [ -n "$arping_program" ] && command -v "$arping_program" > /dev/null || return 0
    if "$arping_program" --help 2>&1 | grep -q -i -e habets -e '-i <interface>'; then
        timeout 5 "$arping_program" -q -U -c 2 -i "$device" -S "$address" "$address"
        timeout 5 "$arping_program" -q -P -U -c 1 -i "$device" -S "$address" "$address"
    else
        timeout 5 "$arping_program" -q -U -c 2 -I "$device" "$address"
        timeout 5 "$arping_program" -q -A -c 1 -I "$device" "$address"
    fi
}

start() {
    "$ip_program" link show dev "$device" > /dev/null 2>&1 || fail "there is no device $device"
    "$ip_program" -o link show up dev "$device" 2> /dev/null | grep -q . || fail "device $device is down"
    local options=()
    if [ "$family" = -4 ]; then
        (( prefix <= 30 )) && options+=(broadcast +)
        [ "$interface" != "$device" ] && options+=(label "$interface")
    else
        options+=(nodad)
    fi
    # Else the kernel removes the other addresses of a subnet together with the first one.
    local promote=/proc/sys/net/ipv4/conf/$device/promote_secondaries
    if [ "$(cat "$promote" 2> /dev/null)" = 0 ]; then
        { echo 1 > "$promote"; } 2> /dev/null || echo "WARNING: cannot set $promote to 1" >&2
    fi
    # replace, not add: it does no harm to an address that is there, but takes a lifetime from it.
    "$ip_program" "$family" address replace "$address/$prefix" ${options[@]+"${options[@]}"} dev "$device" \
        || fail "cannot add $address/$prefix to $device"
    echo "$address/$prefix is on $interface"
    # In the background: the address serves already, and each program takes a second per packet. A script's shell sends
    # no SIGHUP to what it leaves behind, so nothing is disowned (which would fail where the job has ended by now).
    announce > /dev/null 2>&1 < /dev/null &
}

stop() {
    local entry failed=0 found=0
    for entry in $(entries); do
        found=1
        if ! "$ip_program" "$family" address delete "$entry" dev "$device"; then
            failed=1
        fi
    done
    if (( failed )) && [ -n "$(entries)" ]; then
        fail "cannot remove $address from $device"
    fi
    if (( found )); then
        echo "removed $address from $interface"
    else
        echo "$address is not on $device"
    fi
}

[ $# -eq 4 ] || usage
address=${1,,}
interface=$3
action=$4
device=${interface%%:*}
if [[ $address == *:* ]]; then
    family=-6
    max_prefix=128
else
    family=-4
    max_prefix=32
fi
if [ -z "$address" ] || [ -z "$device" ]; then
    usage
fi
prefix=$(prefix_length "$2")
[ -n "$prefix" ] || fail "$2 is neither a netmask nor a prefix length"
command -v "$ip_program" > /dev/null || fail "$ip_program is missing; install iproute2 (iproute on Fedora)"

case $action in
    start) start ;;
    stop) stop ;;
    *) usage ;;
esac
