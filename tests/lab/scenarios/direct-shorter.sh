# shellcheck shell=bash
# 20 ms one way from each side to the relay, 15 ms between the two: the round trip falls from about 80 to about 30 ms.
# long: not part of scripts/test
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_wire a delay=7.5ms
lab_wire b delay=7.5ms
lab_wire relay delay=12.5ms
lab_network
lab_direct a b
on a shadowmesh path b --use relay >/dev/null
rtt() { on a shadowmesh ping b -c 5 -i 0.2 --json | jq '[.replies[].rtt_ms] | add / length'; }
relayed=$(rtt)
lab_oracle move a b --seconds 6 &
oracle=$!
lab_wait 5 "frames to pass" lab_status a '.peers[0].rx_frames > 500 or error'
on a shadowmesh path b --use auto >/dev/null
lab_direct a b
wait "$oracle" || lab_fail "the move was felt"
direct=$(rtt)
lab_measure "round trip over the relay" "$relayed" ms
lab_measure "round trip, direct" "$direct" ms
jq -en "$relayed > 75 and $relayed < 100 and $direct > 28 and $direct < 45" >/dev/null || lab_fail "these are not 80 and 30 ms"
before=$(lab_relay_bytes)
lab_oracle direct a b --seconds 4
[[ $(($(lab_relay_bytes) - before)) -lt 20000 ]] || lab_fail "the relay still forwards: $(($(lab_relay_bytes) - before)) bytes"
