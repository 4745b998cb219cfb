# shellcheck shell=bash
# Access rules on one host: what they allow passes, what they do not is dropped and counted, answers come back, and stricter rules cut what
# they do not allow any more. A mistake leaves the old rules in force.
# long: members tries rules as well, and what they allow is tested without kernels
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat relay-only
lab_network
a_id=$(lab_status a .node.id) a_address=$(lab_address a) b_address=$(lab_address b)

# rules LINE… — the rules of b from now on.
rules() { printf '%s\n' "$@" >"$LAB_DIR/b/run/rules"; }
# A server that says what it hears, and a question to it: tcp HOST ADDRESS PORT.
echoes() {
    start "echo-$1-$2" "$1" python3 -c '
import socket, sys, threading
def serve(peer):
    while data := peer.recv(4096): peer.sendall(data)
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()' "$2"
    lab_wait 5 "the server of $1 on $2" on "$1" sh -c "ss -ltn | grep -q :$2"
}
tcp() {
    on "$1" python3 -c '
import socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)
peer.sendall(b"x" * 1000)
got = 0
while got < 1000: got += len(peer.recv(4096)) or sys.exit(1)' "$2" "$3"
}
refused() { ! "$@" 2>/dev/null; }
# talk — a connection of a to port 22 of b on which something is said each tenth of a second, for as long as it is answered.
talk() {
    start talk a python3 -c '
import socket, sys, time
peer = socket.create_connection((sys.argv[1], 22), timeout=3)
while True:
    peer.sendall(b"x")
    peer.recv(1) or sys.exit(1)
    print("answered", flush=True)
    time.sleep(0.1)' "$b_address"
    lab_wait 5 "a to talk with b" grep -q answered "$LAB_OUT/talk.out"
}

echoes a 8080
echoes b 22
echoes b 23
lab_expect "without rules everything passes" tcp a "$b_address" 23
lab_oracle frames a b --seconds 2

rules "allow id:$a_id -> any tcp 22" "allow id:$a_id -> any icmp"
stop b
lab_up b --rules /run/rules
lab_all_connected 20
lab_expect "what is allowed passes" tcp a "$b_address" 22
lab_expect "ping as well" on a ping -c 2 -i 0.2 -W 2 "$b_address"
lab_expect "what is not does not" refused tcp a "$b_address" 23
lab_expect "it is counted" lab_status b '[.dropped | to_entries[] | select(.key | startswith("access_")) | .value] | add > 0 or error'
lab_expect "answers to what b asks come back" tcp b "$a_address" 8080
lab_expect "a, who has no rules, is reached by b" on b ping -c 2 -i 0.2 -W 2 "$a_address"

talk
rules "allow id:$a_id -> any tcp 2x"
lab_expect "a mistake is refused, with its place" sh -c "nsenter --target ${LAB_HOLDER[b]} --net --mount --uts -- shadowmesh reload 2>&1 | grep 'rules:1:'"
lab_expect "the old rules stay in force" tcp a "$b_address" 22
lab_expect "and b says so" refused tcp a "$b_address" 23
rules "allow id:$a_id -> any tcp 23"
lab_expect "the rules are read again" on b shadowmesh reload
lab_expect "what they allow now passes" tcp a "$b_address" 23
lab_wait 10 "the connection that they do not allow any more to be cut" stopped talk
lab_expect "nor is there another" refused tcp a "$b_address" 22
