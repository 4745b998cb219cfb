# shellcheck shell=bash
# A DHCP server and a router behind a member serve nobody who did not say so: dropped, counted and told; allowed by id, they do.
# long: three times until a client gives up, and what is let in is tested without kernels
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_network
a_device=$(lab_device a) b_device=$(lab_device b) a_mac=$(lab_status a .node.mac)
for host in a b; do lab_wait 5 "the addresses of $host" lab_addresses_settled "$host"; done
on a ip address add 172.31.7.1/24 dev "$a_device"
start dnsmasq a dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --no-ping --interface="$a_device" --bind-interfaces \
    --dhcp-range=172.31.7.50,172.31.7.60,1h --dhcp-leasefile=/run/dhcp.leases --pid-file=/run/dnsmasq.pid --log-dhcp --log-facility=-
printf '#!/bin/sh\n[ "$1" != bound ] || echo "$ip" >/run/lease\n' >"$LAB_DIR/b/run/leased"
chmod +x "$LAB_DIR/b/run/leased"
lease() { on b busybox udhcpc -f -n -q -t 3 -T 1 -i "$b_device" -s /run/leased; }
# The device itself listens to no router; whoever wants one says so to the kernel as well.
listens() { on b sh -c "cd /proc/sys/net/ipv6/conf/$b_device && echo 1 >accept_ra && echo 1 >autoconf"; }
listens
advertised() { on b sh -c "ip -6 address show dev $b_device | grep -q 2001:db8:bad"; }

lab_oracle frames a b --seconds 2
if lease >"$LAB_OUT/lease.txt" 2>&1; then lab_fail "a rogue gives a lease"; fi
lab_expect "its answers are counted" test "$(lab_refused b a in_rogue_dhcp)" -ge 1
lab_wait 5 "how to let it to be said" grep -q "allow-dhcp $(lab_status a '.node.id[0:10]')" "$LAB_OUT/b.log" "$LAB_OUT/b.out"
lab_frames a 3 "$a_mac" router
refused() { [[ $(lab_refused b a in_rogue_router) -ge 3 ]]; }
lab_wait 5 "router advertisements to be refused" refused
if advertised; then lab_fail "a rogue router gives an address"; fi
# Nor from another port than a server's, which clients take as well; nor behind tags that a kernel takes off.
before=$(lab_refused b a in_rogue_dhcp)
lab_frames a 3 "$a_mac" udp "$(lab_status b .node.mac)" "$(lab_address a)" 255.255.255.255 1067 68
lab_frames a 3 "$a_mac" tagged 3 udp "$(lab_status b .node.mac)" "$(lab_address a)" 255.255.255.255 67 68
hidden() { [[ $(lab_refused b a in_rogue_dhcp) -ge $((before + 6)) ]]; }
lab_wait 5 "hidden answers to be refused" hidden
# What bridges say ends where it begins.
lab_frames a 3 "$a_mac" bpdu
lab_wait 5 "BPDUs to be dropped" lab_status a '.switch.dropped.out_link_control >= 3 or error'

lab_expect "b leaves" on b shadowmesh down
lab_up b --allow-dhcp "$(lab_status a .node.id)"
lab_all_connected 20
lab_expect "the allowed server gives a lease" lease
lab_wait 5 "the addresses of b" lab_addresses_settled b
listens
lab_frames a 3 "$a_mac" router
lab_wait 5 "the allowed router's address" advertised

# It is remembered, and taken back.
lab_expect "b leaves" on b shadowmesh down
lab_up b
lab_all_connected 20
lab_expect "a lease again" lease
lab_expect "b leaves" on b shadowmesh down
lab_up b --allow-dhcp none
lab_all_connected 20
if lease >"$LAB_OUT/lease.txt" 2>&1; then lab_fail "what is no longer allowed gives a lease"; fi
step "ok: no lease once it is not allowed"
