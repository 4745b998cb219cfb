# shellcheck shell=bash
# 20 ms one way from each side to the relay, 15 ms between the two: the round trip falls from about 80 to about 30 ms.
# long: direct-move shows the same without the distances
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_wire a delay=7.5ms
lab_wire b delay=7.5ms
lab_wire relay delay=12.5ms
lab_network
lab_direct a b
on a shadowmesh path b --use relay >/dev/null
for host in a b; do lab_wait 5 "$host to be on the relay" lab_path "$host" relay-udp; done
declare -A before=([a]=$(lab_switches a) [b]=$(lab_switches b))
rtt() { on a shadowmesh ping b -c 5 -i 0.2 --json | jq '[.replies[].rtt_ms] | add / length'; }
relayed=$(rtt)
lab_oracle move a b --seconds 6 &
oracle=$!
lab_wait 5 "frames to pass" lab_status a '.peers[0].rx_frames > 500 or error'
start pinging a shadowmesh ping b -c 12 -i 0.2
pinged() { grep -q "via $1" "$LAB_OUT/pinging.out"; }
lab_wait 5 "ping to go by the relay" pinged relay-udp
on a shadowmesh path b --use auto >/dev/null
lab_direct a b
lab_wait 5 "ping to say that it goes directly" pinged direct-udp
lab_wait 5 "ping to end" stopped pinging
lab_expect "none of its packets was lost in the move" grep -q '12 sent, 12 received' "$LAB_OUT/pinging.out"
wait "$oracle" || lab_fail "the move was felt"
for host in a b; do lab_moved "$host" 1 "${before[$host]}"; done
direct=$(rtt)
lab_measure "round trip over the relay" "$relayed" ms
lab_measure "round trip, direct" "$direct" ms
jq -en "$relayed > 75 and $relayed < 100 and $direct > 28 and $direct < 45" >/dev/null || lab_fail "these are not 80 and 30 ms"
lab_relay_rests direct a b 4
