#!/bin/sh
# On a function host, as root: a function of the tenant acme, in a network namespace of its own, asks acme's server.
set -eu

cloud-init status --wait >/dev/null || { echo "this host is not ready: journalctl -u cloud-final" >&2; exit 1; }
if ! ip netns exec function true 2>/dev/null; then
    ip netns add function
    ip link add fn0 type veth peer name eth0 netns function
    ip address add 10.88.0.1/24 dev fn0
    ip link set fn0 up
    ip -n function address add 10.88.0.7/24 dev eth0
    ip -n function link set eth0 up
    ip -n function route add default via 10.88.0.1
fi
portway attach function --tenant acme --interface fn0
ip netns exec function curl --silent --show-error --retry 60 --retry-delay 2 --retry-connrefused --max-time 120 "http://${1:-172.16.101.20}/"
