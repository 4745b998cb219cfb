# shellcheck shell=bash
# Certificates: hosts join by invite, also while no admin is there; what the admin says reaches all; who is revoked is cut off by everybody.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_relay

lab_expect "a network with certificates is made" on a shadowmesh network create office --relay "$RELAY_TICKET" --name a
lab_up a
lab_expect "its host is a member and an admin" lab_status a '.membership | (.state == "member" and .is_admin) or error'
invite() { on a shadowmesh invite "$@" 2>/dev/null; }
for_all=$(invite --uses any --tag lab) for_one=$(invite --uses 1 --name c)
[[ $for_one =~ ^smi1[A-Za-z0-9_-]+$ && ${#for_one} -lt 1000 ]] || lab_fail "an invite is a line of ${#for_one} characters: $for_one"

# b joins; c does with no admin there.
lab_up b "$for_all" --name b
lab_wait 20 "b to be a member" lab_status b '.membership.state == "member" or error'
lab_wait 20 "a and b to be connected" lab_connected b 1
lab_oracle joined a b --seconds "$(quick 2 5)"
stop a
began=$(lab_now_ms)
lab_up c "$for_one" --name whatever
lab_wait 20 "c to be connected to b with no admin there" lab_connected c 1
lab_took "from up to connected, by invite, with no admin there" $(($(lab_now_ms) - began)) 3000
lab_expect "it has the name that the invite gives" lab_status c '.membership.name == "c" or error'
lab_up a
lab_all_connected 20

# What the admin says of others, all say.
members() { on "$1" shadowmesh members --json | jq -er "$2"; }
lab_wait 5 "the admin to take c up" members a '.members[] | select(.name == "c") | .since > 0 or error'
lab_expect "c is renamed" on a shadowmesh rename c carol
lab_expect "and tagged" on a shadowmesh tag carol printer
lab_wait 5 "b to call it so" lab_status b '.peers[] | select(.name == "carol") | .member.tags == ["printer"] or error'
lab_expect "who is no admin is told so" sh -c "nsenter --target ${LAB_HOLDER[b]} --net --mount --uts -- shadowmesh revoke carol 2>&1 | grep -q 'no admin'"

# Rules of the record, by tag.
printf 'allow any -> any icmp\nallow tag:lab -> tag:printer tcp 9100\n' >"$LAB_DIR/a/run/rules"
lab_expect "rules are published" on a shadowmesh rules publish /run/rules
lab_wait 5 "c to keep to them" lab_status c '.rules.count == 2 or error'
c_address=$(lab_address c)
start printer c python3 -c '
import socket
listeners = [socket.create_server(("0.0.0.0", port)) for port in (9100, 22)]
import select
while True:
    for ready in select.select(listeners, [], [])[0]: ready.accept()[0].sendall(b"x")'
lab_wait 5 "the printer" on c sh -c "ss -ltn | grep -q :9100"
tcp() { on "$1" python3 -c 'import socket, sys; sys.exit(not socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).recv(1))' "$2" "$3"; }
refused() { ! "$@" 2>/dev/null; }
lab_expect "b, which has the tag, reaches the printer" tcp b "$c_address" 9100
lab_expect "a, which has not, does not" refused tcp a "$c_address" 9100
lab_expect "and nobody reaches its port 22" refused tcp b "$c_address" 22
printf '' >"$LAB_DIR/a/run/rules"
lab_expect "rules are taken back" on a shadowmesh rules publish /run/rules
lab_wait 5 "c to let everything in again" lab_status c '.rules.count == 0 or error'

# A second use of an invite for one.
lab_expect "c forgets its network, and comes back as another node" on c sh -c "shadowmesh leave && rm /var/lib/shadowmesh/node.key"
lab_wait 12 "the daemon of c to end" stopped c
lab_up c "$for_one" --name again
lab_wait 20 "the second use to be revoked" lab_status c '.membership.state == "revoked" or error'
lab_expect "c leaves" on c sh -c "shadowmesh leave && rm /var/lib/shadowmesh/node.key"
lab_wait 12 "the daemon of c to end" stopped c
lab_up c "$(invite --uses 1 --name dave)"
lab_wait 20 "c to be connected to both" lab_connected c 2

# Revoked under traffic, with the relay gone: who hears it from a cuts it off at once.
lab_wait 20 "a and b to be direct" lab_status b '[.peers[] | select(.state == "connected" and .path.kind == "direct-udp")] | length == 2 or error'
lab_wait 20 "c to be direct" lab_status c '[.peers[] | select(.state == "connected" and .path.kind == "direct-udp")] | length == 2 or error'
start pings c ping -i 0.05 -W 1 "$(lab_address b)"
lab_wait 5 "c to ping b" grep -q 'icmp_seq=5 ' "$LAB_OUT/pings.out"
stop relay KILL
began=$(lab_now_ms)
lab_expect "dave is revoked" on a shadowmesh revoke dave
cut_off() { lab_status "$1" '[.peers[] | select(.name == "dave" and .state == "connected")] | length == 0 or error'; }
lab_wait 3 "a to cut it off" cut_off a
lab_wait 3 "b to cut it off" cut_off b
lab_within "from revoke to cut off by both" $(($(lab_now_ms) - began)) 1000
answered=$(grep -c 'bytes from' "$LAB_OUT/pings.out")
lab_hold 1 "listening"
[[ $(grep -c 'bytes from' "$LAB_OUT/pings.out") == "$answered" ]] || lab_fail "c was answered after it was cut off"
stop pings
lab_oracle after a b --seconds "$(quick 2 5)"

# The admin's machine is lost, and a copy of the network makes an admin of another host, which shuts the lost one out.
lab_expect "a copy is written while the daemon runs" on a shadowmesh network export /run/office.backup
lab_expect "it is for its owner alone" on a sh -c '[ "$(stat -c %a /run/office.backup)" = 600 ]'
if on a setpriv --reuid 12345 --regid 12345 --clear-groups shadowmesh network export - >"$LAB_OUT/stranger.out" 2>&1; then lab_fail "anybody gets a copy"; fi
stop a
lab_expect "without it the copy is the same" on a sh -c 'shadowmesh network export /run/second.backup && cmp /run/second.backup /run/office.backup'
cp "$LAB_DIR/a/run/office.backup" "$LAB_DIR/c/run/"
# forgets HOST [OPTION] — it leaves the network and comes back as another node.
forgets() {
    lab_expect "$1 leaves" on "$1" sh -c "shadowmesh leave ${2:-} && rm /var/lib/shadowmesh/node.key"
    lab_wait 12 "the daemon of $1 to end" stopped "$1"
}
forgets c
lab_expect "c takes over the copy" on c shadowmesh network import /run/office.backup
lab_relay
lab_up c --name rescue
lab_expect "it is a member and an admin" lab_status c '.membership | (.state == "member" and .is_admin) or error'
lab_wait 20 "c to be connected to b" lab_connected c 1
lab_expect "c revokes the lost host" on c shadowmesh revoke a
lab_wait 5 "b to hear of it" members b '.members[] | select(.name == "a") | .standing | test("revoked") or error'
lab_up a
lab_wait 20 "a to know that it was revoked" lab_status a '.membership.state == "revoked" or error'
lab_expect "nobody is connected to it" lab_status a '[.peers[] | select(.state == "connected" and .member.refuses_us == null)] | length == 0 or error'
forgets a
lab_expect "a kept a copy of the network with the admin's key" on a jq -e '.admin_key | length > 40' /var/lib/shadowmesh/left-office

# Of two admins one is lost, and the other goes on.
id=$(on b shadowmesh admins id --json | jq -er .id)
admins() { on "$1" shadowmesh admins list --json | jq -er "$2"; }
lab_expect "b's key is made an admin's" on c shadowmesh admins add "$id" --name second
lab_wait 5 "b to be an admin" lab_status b '.membership.is_admin or error'
stop c KILL
invite=$(on b shadowmesh invite --uses 1 --name anew 2>/dev/null) || lab_fail "the second admin cannot invite"
lab_up a "$invite"
lab_wait 20 "a to join by the second admin's invite" lab_connected a 1
lab_expect "it has the name that the second admin gave" lab_status a '.membership | (.state == "member" and .name == "anew") or error'
lab_expect "the second admin shuts out whom it wants" on b shadowmesh revoke rescue
lab_wait 5 "a to hear of it" members a '.members[] | select(.name == "rescue") | .standing | test("revoked") or error'

# The host of the first is found again, and is none to its own network; its key comes to another, which takes the second's word away.
lab_up c
lab_wait 20 "c to know that it was revoked" lab_status c '.membership.state == "revoked" or error'
forgets c --discard-admin-key
lab_expect "c takes over the copy once more" on c shadowmesh network import /run/office.backup
lab_up c --name rescued
lab_wait 20 "c to be connected to both" lab_connected c 2
lab_wait 5 "c to know of the second admin" admins c '.admins | length == 2 or error'
lab_expect "the second admin is removed" on c shadowmesh admins remove second
lab_wait 5 "b to be an admin no more" lab_status b '.membership | (.state == "member" and (.is_admin | not)) or error'
lab_wait 5 "a to know one admin" admins a '.admins | length == 1 or error'
lab_expect "its word counts no more" sh -c "nsenter --target ${LAB_HOLDER[b]} --net --mount --uts -- shadowmesh rename anew other 2>&1 | grep -q 'has no say'"
lab_expect "whom it let in stays" lab_status c '.peers[] | select(.name == "anew") | .member.standing == "admitted" or error'
lab_oracle admins a c --seconds "$(quick 2 5)"
