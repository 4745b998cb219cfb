# shellcheck shell=bash
# Two NATs through which nobody goes directly: the data takes the relay's datagrams, with one move, and the relay's stream when those fail.
. "$(dirname "$0")/../lib.sh"
lab_by_datagram
lab_expect "datagrams pass the relay" on relay sh -c 'shadowmesh-relay status --json | jq -e ".forwarded_datagrams > 0 and .pairs.relayed == 1"'
lab_oracle by-datagram a b --seconds 5

# The relay is killed: everything comes back with it.
lab_oracle killed a b --seconds 10 --max-gap-ms 9000 &
oracle=$!
lab_frames_pass a 500
stop relay KILL
lab_relay
wait "$oracle" || lab_fail "frames were lost with the relay"
lab_measure "longest silence, relay killed" "$(lab_longest_gap killed)" ms
for host in a b; do lab_wait 10 "$host to be on relay-udp" lab_path "$host" relay-udp; done

# UDP dies without a word: the stream takes over, and what was swallowed goes again.
before=$(lab_switches a)
lab_oracle blocked a b --seconds 6 --max-gap-ms 3000 &
oracle=$!
lab_frames_pass a 500
lab_wire_change a both only=udp,block
lab_wait 3 "a to be on the stream" lab_path a relay-ws
wait "$oracle" || lab_fail "frames were lost with the datagrams"
lab_measure "longest silence, UDP blocked" "$(lab_longest_gap blocked)" ms
[[ $(lab_switches a) == $((before + 1)) ]] || lab_fail "a moved $(($(lab_switches a) - before)) times"
