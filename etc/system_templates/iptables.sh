#!/usr/bin/env bash
# Lets the nodes of the cluster talk to each other, with iptables: UDP and TCP port 53897, from them only. May be run again.
# Give the keep_alive_ip of every node; on a systemd with firewalld or nftables use drcm_server.xml or nftables.conf instead.
#
# usage: iptables.sh address ...
set -u

port=${DRCM_PORT:-53897}
[ $# -gt 0 ] || {
    echo "usage: ${0##*/} address ..." >&2
    exit 2
}

iptables -N CLUSTERMANAGER 2> /dev/null || iptables -F CLUSTERMANAGER || exit 1
iptables -C INPUT -j CLUSTERMANAGER 2> /dev/null || iptables -I INPUT 1 -j CLUSTERMANAGER || exit 1
for address in "$@"; do
    for protocol in udp tcp; do
        iptables -A CLUSTERMANAGER -p "$protocol" --dport "$port" -s "$address/32" -j ACCEPT || exit 1
    done
done
