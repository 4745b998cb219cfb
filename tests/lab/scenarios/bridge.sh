# shellcheck shell=bash
# Two LANs of 1500 bytes become one through `up --bridge`: a host of one gets its address from the DHCP server of the other, full frames
# pass both ways, data goes directly and never through itself, and afterwards the bridges are as they were.
# long: the device as a port of a bridge is tried by kernel tests, and a loop of two bridges by bridge-loop
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat

# A bridge on each host, with a LAN's host behind it. The bridges have addresses in the LAN that will be one: a way from one host to the
# other that lies in the tunnel.
lan() { # HOST NAMESPACE ADDRESS
    lab_namespace "$2"
    on "$1" ip link add br0 type bridge
    on "$1" ip link set br0 up
    ip -n "$LAB-$1" link add lan0 type veth peer name eth0 netns "$LAB-$2"
    ip -n "$LAB-$1" link set lan0 master br0 up
    ip -n "$LAB-$2" link set eth0 up
    on "$1" ip address add "$3/24" dev br0
}
lan a office 172.31.8.1
lan b home 172.31.8.2
declare -A before=()
for host in a b; do before[$host]=$(on "$host" ip -br address show dev br0); done
on office ip address add 172.31.8.10/24 dev eth0

lab_network --bridge br0 --allow-dhcp any
for host in a b; do
    device=$(lab_device "$host")
    lab_expect "the device of $host is a port of its bridge" on "$host" sh -c "ip -o link show dev $device | grep 'master br0'"
    lab_expect "its MTU is the LAN's" on "$host" grep -x 1500 "/sys/class/net/$device/mtu"
    lab_expect "the bridge's stays so" on "$host" grep -x 1500 /sys/class/net/br0/mtu
    lab_expect "the overlay's address of $host is the bridge's" on "$host" sh -c "ip -o address show dev br0 | grep -F '$(lab_address "$host")/'"
done
lab_expect "the two reach each other by the overlay's addresses" on a ping -c 2 -i 0.2 -W 3 "$(lab_address b)"

# A DHCP server in one LAN, a client in the other.
start dnsmasq office dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --no-ping --interface=eth0 --bind-interfaces \
    --dhcp-range=172.31.8.50,172.31.8.60,1h --dhcp-leasefile=/run/dhcp.leases --pid-file=/run/dnsmasq.pid --log-dhcp --log-facility=-
cat >"$LAB_DIR/home/run/leased" <<'LEASE'
#!/bin/sh
[ "$1" != bound ] || { echo "$ip" >/run/lease; ip address add "$ip/24" dev "$interface"; }
LEASE
chmod +x "$LAB_DIR/home/run/leased"
lab_expect "a host at home gets a lease from the office" on home busybox udhcpc -f -n -q -t 10 -T 1 -i eth0 -s /run/leased
lease=$(cat "$LAB_DIR/home/run/lease")
lab_expect "the office reaches $lease" on office ping -c 2 -i 0.2 -W 3 "$lease"
lab_expect "with full frames that may not be cut" on office ping -c 3 -i 0.2 -W 3 -M 'do' -s 1472 "$lease"
lab_expect "and the other way" on home ping -c 3 -i 0.2 -W 3 -M 'do' -s 1472 172.31.8.10
lab_expect "hosts at home reach the bridging host of the office" on home ping -c 2 -i 0.2 -W 3 172.31.8.1

# A direct path, and by the world outside: what would lie in the tunnel itself was tried, and never left.
lab_direct a b 10
lab_hold "$(quick 3 10)" "checks go on"
for host in a b; do
    lab_expect "$host is on direct-udp" lab_path "$host" direct-udp
    lab_expect "$host sends by the world outside" lab_status "$host" '.peers[0].path.remote | startswith("172.31.8.") | not or error'
    # To a better path, perhaps by way of TCP; never back.
    lab_expect "$host did not move to and fro" lab_status "$host" '.peers[0] | (.switches <= 2 and .last_switch.reason == "a better path was proven") or error'
done
lab_expect "a way through the tunnel itself was asked for, and shut" lab_status a '.dropped.own_packets > 0 or error'

# Frames and a transfer from LAN to LAN.
LAB_DEVICE=eth0 LAB_BESIDE='' lab_oracle lans office home --seconds "$(quick 2 10)"
lab_expect "a transfer from the office" "$LAB_TOOLS/stream" --from "$LAB-office" --to "$LAB-home" --address "$lease" --seconds 2 --rate 5000000

# One that is killed leaves its addresses on the bridge, and takes them up again.
stop a KILL
lab_up a
lab_wait 20 "a to be connected again" lab_connected a 1
lab_expect "hosts reach each other again" on office ping -c 2 -i 0.2 -W 3 "$lease"

# The bridges are given back as they were; what was asked for once is remembered, until `none`.
for host in a b; do
    lab_expect "$host leaves" on "$host" shadowmesh down
    lab_wait 5 "the daemon of $host to end" stopped "$host"
    after=$(on "$host" ip -br address show dev br0)
    [[ $after == "${before[$host]}" ]] || lab_fail "the bridge of $host has $after and had ${before[$host]}"
done
lab_up a
lab_expect "it is remembered" on a sh -c "ip -o link show dev $(lab_device a) | grep 'master br0'"
lab_expect "a leaves" on a shadowmesh down
lab_wait 5 "the daemon of a to end" stopped a
lab_up a --bridge none
lab_expect "and forgotten" on a sh -c "! ip -o link show dev $(lab_device a) | grep master"
lab_expect "with the usual MTU" on a grep -x 1400 "/sys/class/net/$(lab_device a)/mtu"
# A bridge that is not there.
lab_expect "a leaves" on a shadowmesh down
lab_wait 5 "the daemon of a to end" stopped a
on a shadowmesh up --bridge br7 >"$LAB_OUT/missing.txt" 2>&1 && lab_fail "a bridge that is not there was entered"
lab_expect "a bridge that is missing is named" grep -q "no bridge named br7" "$LAB_OUT/missing.txt"
