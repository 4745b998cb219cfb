# shellcheck shell=bash
# A member takes no other's MAC or address: what says so is dropped where it arrives, counted by cause, and nobody is misled.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_network
for host in a b c; do lab_wait 5 "the addresses of $host" lab_addresses_settled "$host"; done
a_mac=$(lab_status a .node.mac) b_mac=$(lab_status b .node.mac) c_mac=$(lab_status c .node.mac)
a_address=$(lab_address a) b_address=$(lab_address b) c_address=$(lab_address c)
six() { lab_status "$1" '[.node.addresses[] | select(contains(":"))][0] | split("/")[0]'; }
lab_expect "a knows b" on a ping -c 1 -W 2 "$b_address"

# c lies to a, about b and about a itself. What names b's MAC as its sender does not even leave c.
lab_listen lies a "(ether src $b_mac and udp) or (ether src $c_mac and (ether broadcast or udp port 5353 or (icmp6 and ip6[40] == 136)))"
# (Announcements: a question for a member would be answered at c and not cross.)
lab_frames c 10 "$c_mac" arp "$c_mac" "$b_address" "$b_address"
lab_frames c 10 "$c_mac" arp "$b_mac" "$c_address" "$c_address"
lab_frames c 10 "$c_mac" arp "$c_mac" "$a_address" "$a_address"
# In what kernels take for ARP as well: another hardware type, tags without a VLAN.
lab_frames c 10 "$c_mac" hardware 6 arp "$c_mac" "$b_address" "$b_address"
lab_frames c 10 "$c_mac" tagged 3 arp "$c_mac" "$b_address" "$b_address"
lab_frames c 10 "$c_mac" udp "$a_mac" "$b_address" "$a_address" 5353 5353
lab_frames c 10 "$c_mac" advertise "$(six b)" "$c_mac"
lab_frames c 10 "$b_mac" udp "$a_mac" "$b_address" "$a_address" 5353 5353
lab_refused_at_least() { [[ $(lab_refused a c "$1") -ge $2 ]]; }
lab_wait 5 "lies of ARP to be counted" lab_refused_at_least in_arp_spoofed 50
lab_wait 5 "lies of IPv4 to be counted" lab_refused_at_least in_ipv4_spoofed 10
lab_wait 5 "lies of neighbour discovery to be counted" lab_refused_at_least in_neighbour_spoofed 10
lab_expect "the MAC of b does not leave c" lab_status c '.switch.dropped.out_source_is_member >= 10 or error'
[[ $(lab_heard lies) -eq 0 ]] || lab_fail "a heard $(lab_heard lies) lies"
lab_expect "a still knows b by its own MAC" on a sh -c "ip neigh show dev $(lab_device a) $b_address | grep -i $b_mac"
lab_oracle truth a b --seconds 2

# What nobody owns c may use: there may be a LAN behind it.
lab_listen strangers a "ether src 02:99:99:99:99:99"
lab_frames c 10 02:99:99:99:99:99 arp 02:99:99:99:99:99 10.255.1.1 10.255.1.1
lab_wait 5 "a stranger behind c to be heard" test -s "$LAB_OUT/strangers.out"
