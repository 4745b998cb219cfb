# shellcheck shell=bash
# ARP and neighbour solicitations for a member are answered on the spot: no question crosses, one for a stranger once a second. A member takes no
# other's MAC or address: what says so is dropped where it arrives, counted by cause, and nobody is misled.
# long: what a switch refuses is tested without kernels
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_network
for host in a b c; do lab_wait 5 "the addresses of $host" lab_addresses_settled "$host"; done
a_device=$(lab_device a)
a_mac=$(lab_status a .node.mac) b_mac=$(lab_status b .node.mac) c_mac=$(lab_status c .node.mac)
a_address=$(lab_address a) b_address=$(lab_address b) c_address=$(lab_address c)
six=$(lab_status b '[.node.addresses[] | select(contains(":"))][0] | split("/")[0]')
answered() { lab_status a ".switch.$1"; }

# To all, or to a group: what a kernel asks a member alone, to see whether it lives, goes to the member.
lab_listen asked b "ether src $a_mac and ((arp and ether broadcast) or (icmp6 and ip6[40] == 135 and ether multicast))"
lab_hold 1 "what a kernel says of itself passes"
before=$(lab_heard asked) arp=$(answered arp_answered) neighbours=$(answered neighbours_answered)
for _ in 1 2 3 4 5; do
    on a ip neigh flush dev "$a_device"
    lab_expect "ping after ARP from nothing" on a ping -c 1 -W 2 "$b_address"
    lab_expect "ping after neighbour discovery from nothing" on a ping -6 -c 1 -W 2 "$six"
done
lab_expect "the neighbour is b's own MAC $b_mac" on a sh -c "ip neigh show dev $a_device $b_address | grep -i $b_mac"
[[ $(answered arp_answered) -ge $((arp + 5)) ]] || lab_fail "ARP was answered $(($(answered arp_answered) - arp)) times"
[[ $(answered neighbours_answered) -ge $((neighbours + 5)) ]] || lab_fail "solicitations were answered $(($(answered neighbours_answered) - neighbours)) times"
lab_frames a 20 "$a_mac" arp "$a_mac" 0.0.0.0 "$b_address"
# One that does cross, behind all of them.
lab_frames a 1 "$a_mac" arp "$a_mac" "$a_address" 10.255.2.2
crossed() { [[ $(lab_heard asked) -gt $before ]]; }
lab_wait 5 "the question for a stranger to cross" crossed
[[ $(lab_heard asked) -eq $((before + 1)) ]] || lab_fail "$(($(lab_heard asked) - before - 1)) questions for b crossed"
step "ok: no question for b crossed"

# The kernel refuses an address that a member has, by the answer of the member's stead (RFC 4862 §5.4).
on a ip -6 address add "$six/128" dev "$a_device"
lab_wait 5 "the copied address to be refused" on a sh -c "ip -6 address show dev $a_device | grep -q dadfailed"
on a ip -6 address del "$six/128" dev "$a_device"

# A stranger may be behind a bridge: asked for once a second.
lab_listen stranger b "arp and ether broadcast and host 10.255.1.1"
lab_frames a "$(quick 200 400)" "$a_mac" arp "$a_mac" "$a_address" 10.255.1.1
asked=$(lab_heard stranger)
lab_measure "questions of two hundred a second that crossed" "$asked" frames
[[ $asked -ge $(quick 1 2) && $asked -le $(quick 4 8) ]] || lab_fail "$asked questions for a stranger crossed"

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
lab_frames c 10 "$c_mac" advertise "$six" "$c_mac"
lab_frames c 10 "$b_mac" udp "$a_mac" "$b_address" "$a_address" 5353 5353
lab_refused_at_least() { [[ $(lab_refused a c "$1") -ge $2 ]]; }
lab_wait 5 "lies of ARP to be counted" lab_refused_at_least in_arp_spoofed 50
lab_wait 5 "lies of IPv4 to be counted" lab_refused_at_least in_ipv4_spoofed 10
lab_wait 5 "lies of neighbour discovery to be counted" lab_refused_at_least in_neighbour_spoofed 10
lab_expect "the MAC of b does not leave c" lab_status c '.switch.dropped.out_source_is_member >= 10 or error'
[[ $(lab_heard lies) -eq 0 ]] || lab_fail "a heard $(lab_heard lies) lies"
lab_expect "a still knows b by its own MAC" on a sh -c "ip neigh show dev $a_device $b_address | grep -i $b_mac"
lab_oracle truth a b --seconds "$(quick 1 3)"

# What nobody owns c may use: there may be a LAN behind it.
lab_listen strangers a "ether src 02:99:99:99:99:99"
lab_frames c 10 02:99:99:99:99:99 arp 02:99:99:99:99:99 10.255.1.1 10.255.1.1
lab_wait 5 "a stranger behind c to be heard" test -s "$LAB_OUT/strangers.out"
