# shellcheck shell=bash
# Multicast goes to who wants it once somebody asks (IGMP), to everybody before, and never beyond the budget. Who may not route asks in vain.
# long: what a switch decides is tested without kernels; this is Linux's own IGMP
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_network
a_mac=$(lab_status a .node.mac) b_mac=$(lab_status b .node.mac)
GROUP=239.1.2.3
for host in b c; do lab_listen "group-$host" "$host" "udp and dst host $GROUP"; done
heard() { [[ $(lab_heard "group-$1") -ge $2 ]]; }

lab_frames a 20 "$a_mac" group $GROUP 200
for host in b c; do lab_wait 5 "$host to get what nobody asks about" heard "$host" 20; done

# b may not be a's router: it might have asked nobody else, so a goes on.
lab_frames b 2 "$b_mac" query 0.0.0.0
lab_hold 3 "hosts may answer"
lab_frames a 20 "$a_mac" group $GROUP 200
for host in b c; do lab_wait 5 "$host to get what only b asks about" heard "$host" 40; done

# c wants the group; then a router behind a asks, and c says so again.
start member c python3 -c "
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
index = socket.if_nametoindex('$(lab_device c)')
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack('4s4si', socket.inet_aton('$GROUP'), bytes(4), index))
time.sleep(600)"
lab_frames a 1 "$a_mac" query "$(lab_address a)"
# What the other half heard is looked at with the next frame.
wanted() { lab_frames a 1 "$a_mac" group $GROUP 60 && lab_status a '.switch.groups >= 1 or error'; }
lab_wait 15 "a to hear what c wants" wanted
# Each peer gets everything until it was asked and had the time to answer: a second, and one for the way.
lab_frames a 1 "$a_mac" query "$(lab_address a)"
lab_hold 4 "everybody may answer"
b_had=$(lab_heard group-b) c_had=$(lab_heard group-c)
lab_frames a 50 "$a_mac" group $GROUP 200
lab_wait 5 "c to get its group" heard c $((c_had + 50))
[[ $(lab_heard group-b) -eq $b_had ]] || lab_fail "b got $(($(lab_heard group-b) - b_had)) frames that it did not want"
step "ok: b got none of them"

# A stream of 1.6 Mbit/s for four seconds: a second of the budget at once, and then what it allows.
c_had=$(lab_heard group-c)
lab_frames a 800 "$a_mac" group $GROUP 1000
came=$(($(lab_heard group-c) - c_had))
lab_measure "frames of 800 that the budget let pass" "$came" frames
[[ $came -ge 300 && $came -lt 780 ]] || lab_fail "$came frames of 800"
lab_expect "what was beyond it is counted" lab_status a '[.peers[].tx_over_budget.multicast // 0] | add > 0 or error'
lab_oracle beside a b --seconds 2
