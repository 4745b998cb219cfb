# shellcheck shell=bash
# Two NATs through which nobody goes directly: the data takes the relay's datagrams, with one move, and the relay's stream when those fail.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_nat a symmetric
lab_nat b symmetric
lab_wire a ''
lab_network
for host in a b; do
    lab_wait 6 "$host to be on relay-udp" lab_path "$host" relay-udp
    [[ $(lab_switches "$host") == 1 ]] || lab_fail "$host moved $(lab_switches "$host") times"
done
lab_expect "datagrams pass the relay" on relay sh -c 'shadowmesh-relay status --json | jq -e ".forwarded_datagrams > 0 and .pairs.relayed == 1"'
lab_oracle by-datagram a b --seconds 5

# UDP dies without a word: the stream takes over, and what was swallowed goes again.
lab_oracle blocked a b --seconds 6 --max-gap-ms 3000 &
oracle=$!
frames=$(lab_status a '.peers[0].rx_frames')
lab_wait 5 "frames to pass" lab_status a ".peers[0].rx_frames > $frames + 500 or error"
lab_wire_change a both only=udp,block
lab_wait 3 "a to be on the stream" lab_path a relay-ws
wait "$oracle" || lab_fail "frames were lost with the datagrams"
lab_measure "longest silence, UDP blocked" "$(lab_longest_gap blocked)" ms
[[ $(lab_switches a) == 2 && $(lab_switches b) == 2 ]] || lab_fail "moves: $(lab_switches a), $(lab_switches b)"

# It comes back; a changed address is reason enough to try.
lab_wire_change a both ''
ip -n "$LAB-a" address add 192.168.11.77/32 dev eth0
for host in a b; do lab_wait 75 "$host to be on relay-udp again" lab_path "$host" relay-udp; done

# The NAT forgets its mapping: the relay binds the new one.
lab_oracle rebound a b --seconds 40 --max-gap-ms 3000 &
oracle=$!
frames=$(lab_status a '.peers[0].rx_frames')
lab_wait 5 "frames to pass" lab_status a ".peers[0].rx_frames > $frames + 500 or error"
lab_rebind a
wait "$oracle" || lab_fail "frames were lost with the mapping"
lab_measure "longest silence, mapping forgotten" "$(lab_longest_gap rebound)" ms
for host in a b; do lab_expect "$host is on relay-udp" lab_path "$host" relay-udp; done

# The relay is killed: everything comes back with it.
lab_oracle killed a b --seconds 10 --max-gap-ms 9000 &
oracle=$!
frames=$(lab_status a '.peers[0].rx_frames')
lab_wait 5 "frames to pass" lab_status a ".peers[0].rx_frames > $frames + 500 or error"
stop relay KILL
lab_relay
wait "$oracle" || lab_fail "frames were lost with the relay"
lab_measure "longest silence, relay killed" "$(lab_longest_gap killed)" ms
for host in a b; do lab_wait 10 "$host to be on relay-udp" lab_path "$host" relay-udp; done
