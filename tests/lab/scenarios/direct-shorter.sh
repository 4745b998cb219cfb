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
on a shadowmesh path b --use auto >/dev/null
lab_direct a b
wait "$oracle" || lab_fail "the move was felt"
for host in a b; do lab_moved "$host" 1 "${before[$host]}"; done
direct=$(rtt)
lab_measure "round trip over the relay" "$relayed" ms
lab_measure "round trip, direct" "$direct" ms
jq -en "$relayed > 75 and $relayed < 100 and $direct > 28 and $direct < 45" >/dev/null || lab_fail "these are not 80 and 30 ms"
forwarded=$(lab_forwarded)
lab_oracle direct a b --seconds 4
forwarded=$(($(lab_forwarded) - forwarded))
lab_measure "bytes that the relay forwarded beside 8000 frames" "$forwarded" bytes
# No data. (A doubt of a busy machine asks the relay's path: some PINGs of 1280 bytes, beside 6 MB of frames.)
[[ $forwarded -le 10000 ]] || lab_fail "the relay still forwards: $forwarded bytes"
