# shellcheck shell=bash
# Layer 2 is real: ARP, IPv6 neighbours, DHCP, multicast, VLAN tags and unknown ethertypes pass unchanged, and the MAC that others know stays the device's.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat "${LAB_TYPE:-relay-only}"
# A DHCP server behind a member serves whoever says so (rogue-dhcp tries the others).
lab_network --allow-dhcp any
a_device=$(lab_device a) b_device=$(lab_device b)
b_mac=$(lab_status b .node.mac)

# ARP, from nothing.
on a ip neigh flush dev "$a_device"
lab_expect "ping after ARP from nothing" on a ping -c 2 -i 0.2 -W 2 "$(lab_address b)"
lab_expect "the neighbour is b's own MAC $b_mac" on a sh -c "ip neigh show dev $a_device $(lab_address b) | grep -i $b_mac"

# IPv6: link-local multicast, neighbour discovery, and the address from the key.
for host in a b; do lab_wait 5 "the link-local address of $host" lab_addresses_settled "$host"; done
b_local=$(ip -n "$LAB-b" -o -6 address show dev "$b_device" scope link | awk '{ print $4 }')
lab_expect "b answers to all nodes of the link" on a sh -c "ping -6 -c 3 -i 0.2 -W 2 ff02::1%$a_device | grep 'from ${b_local%/*}'"
six=$(lab_status b '[.node.addresses[] | select(contains(":"))][0] | split("/")[0]')
lab_expect "ping $six after neighbour discovery" on a ping -6 -c 2 -i 0.2 -W 2 "$six"

# DHCP: a server at one end, a client at the other, in a subnet of its own.
on a ip address add 172.31.7.1/24 dev "$a_device"
start dnsmasq a dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --no-ping --interface="$a_device" --bind-interfaces \
    --dhcp-range=172.31.7.50,172.31.7.60,1h --dhcp-leasefile=/run/dhcp.leases --pid-file=/run/dnsmasq.pid --log-dhcp --log-facility=-
cat >"$LAB_DIR/b/run/leased" <<'LEASE'
#!/bin/sh
[ "$1" != bound ] || { echo "$ip" >/run/lease; ip address add "$ip/24" dev "$interface"; }
LEASE
chmod +x "$LAB_DIR/b/run/leased"
lab_expect "DHCP gives a lease" on b busybox udhcpc -f -n -q -t 10 -T 1 -i "$b_device" -s /run/leased
lab_expect "the lease $(cat "$LAB_DIR/b/run/lease") works" on b ping -c 2 -i 0.2 -W 2 172.31.7.1

# Whatever else is a frame. The largest fills the device's MTU, and with a tag goes four bytes beyond.
lab_oracle unicast a b --seconds "$(quick 1 3)"
# Within the budget of what is for all: 1 Mbit/s.
lab_oracle broadcast a b --seconds "$(quick 1 3)" --rate 100 --to broadcast
lab_oracle multicast a b --seconds "$(quick 1 3)" --rate 100 --to multicast
lab_oracle vlan a b --seconds "$(quick 1 3)" --rate 500 --vlan 0x2005
lab_oracle unknown-ethertype a b --seconds "$(quick 1 3)" --rate 500 --ethertype 0x9999

# Another program gives the device another MAC: it has its own again.
has_its_mac() { [[ $(on b cat "/sys/class/net/$b_device/address") == "$b_mac" ]]; }
reaches() {
    on a ip neigh flush dev "$a_device"
    lab_expect "a reaches b as before" on a ping -c 3 -i 0.2 -W 2 "$(lab_address b)"
}
lab_expect "another MAC" ip -n "$LAB-b" link set "$b_device" address 02:53:4d:00:00:99
lab_wait 5 "b to have its own again" has_its_mac
lab_expect "that is said" grep -q 'another program gave the device another MAC' "$LAB_OUT/b.log"
reaches
# As udev does of each device that comes, and on a busy machine just after us.
stop b
# shellcheck disable=SC2016
start udev b bash -c 'grep -m 1 "$0: .*[<,]UP" < <(ip monitor link) && exec ip link set "$0" address 02:53:4d:00:00:99' "$b_device"
lab_wait 5 "the stand-in of udev" pgrep -P "${LAB_PID[udev]}" -x grep
lab_up b
lab_wait 5 "it to have given b another MAC" stopped udev
lab_wait 5 "b to have its own again" has_its_mac
lab_wait 20 "a to be connected" lab_connected a 1
reaches
