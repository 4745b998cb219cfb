# shellcheck shell=bash
# The network of the first run, as people use it: two hosts of one name, an address of choice, a lost laptop and its successor, a founder that leaves and returns.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_relay

lab_up a --relay "$RELAY_TICKET" --name desk
lab_invite a
lab_expect "who made it is a member and an admin" lab_status a '.membership | (.state == "member" and .is_admin) or error'
lab_wait 5 "it to say that it is the only one" grep -q "only admin" "$LAB_OUT/a.log"
members() { on "$1" shadowmesh members --json | jq -er "$2"; }

# Who comes while no member is there that could let it in is told so.
stop a
lab_up b "$INVITE" --name early
doctor() { on b shadowmesh doctor --json 2>/dev/null || true; }
waits() { doctor | jq -e 'any(.findings[]; .id == "joining")'; }
waits_not() { doctor | jq -e 'any(.clean[]; .id == "joining")'; }
lab_wait 10 "doctor on b to say that it waits for a member" waits
lab_expect "and status" lab_status b '.membership.state == "joining" or error'
lab_up a
lab_wait 20 "b to be a member" lab_status b '.membership.state == "member" or error'
lab_wait 5 "doctor to be clean of it" waits_not
stop b
on b sh -c "shadowmesh leave && rm /var/lib/shadowmesh/node.key" >"$LAB_OUT/leave.txt" 2>&1

# By the invite that was printed: an address of choice within the network's range, and another host of one name.
range=$(lab_address a | cut -d. -f1-2)
lab_up b "$INVITE" --name pi --address "$range.9.9/16"
lab_wait 20 "b to be connected to a" lab_connected b 1
[[ $(lab_status b '.node.addresses[0]') == "$range.9.9/16" ]] || lab_fail "b has $(lab_status b '.node.addresses | join(" ")')"
lab_wait 5 "the admin to take b up" members a '.members[] | select(.name == "pi") | .since > 0 or error'
lab_up c "$INVITE" --name pi
lab_all_connected 20
for host in a b; do lab_wait 5 "$host to call the second one pi-2" lab_status "$host" 'any(.peers[]; .name == "pi-2") or error'; done
lab_wait 5 "c to call itself so" lab_status c '.membership.name == "pi-2" or error'
for to in pi pi-2; do lab_expect "a pings $to" on a shadowmesh ping "$to" -c 2 -i 0.2; done
lab_expect "and by its address" on a ping -c 2 -i 0.2 -W 2 "$range.9.9"
lab_oracle frames b c --seconds "$(quick 2 5)"

# The laptop is lost; its successor has its name, and an invite that was made while no daemon ran.
lab_expect "pi is revoked" on a shadowmesh revoke pi
began=$(lab_now_ms)
cut_off() { lab_status "$1" '[.peers[] | select(.name == "pi" and .state == "connected")] | length == 0 or error'; }
for host in a c; do lab_wait 3 "$host to cut it off" cut_off "$host"; done
lab_within "from revoke to cut off by both" $(($(lab_now_ms) - began)) 1000
lab_wait 10 "b to know" lab_status b '.membership.state == "revoked" or error'
stop b
stop a
invite=$(on a shadowmesh invite --name pi --uses 1 2>/dev/null)
[[ $invite =~ ^smi1[A-Za-z0-9_-]+$ ]] || lab_fail "no invite without a daemon: $invite"
lab_up a
on b sh -c "shadowmesh leave && rm /var/lib/shadowmesh/node.key" >>"$LAB_OUT/leave.txt" 2>&1
lab_up b "$invite"
lab_all_connected 20
lab_wait 5 "it to be called pi" lab_status b '.membership.name == "pi" or error'
lab_expect "a pings pi" on a shadowmesh ping pi -c 2 -i 0.2

# Who made the network leaves it, and comes back with the copy that this kept.
lab_expect "a leaves" on a shadowmesh leave
copy=$(on a sh -c 'echo /var/lib/shadowmesh/left-*')
lab_expect "a copy is kept, for root alone" on a sh -c "[ \$(stat -c %a '$copy') = 600 ]"
lab_wait 12 "the daemon of a to end" stopped a
lab_expect "it is taken over" on a shadowmesh network import "$copy"
lab_up a
lab_all_connected 20
lab_expect "it is an admin again" lab_status a '.membership | (.state == "member" and .is_admin) or error'
lab_expect "c is renamed by it" on a shadowmesh rename pi-2 attic
lab_wait 5 "b to call it so" lab_status b 'any(.peers[]; .name == "attic") or error'
lab_oracle afterwards a b --seconds "$(quick 2 5)"
