# shellcheck shell=bash
# The relay is told to stop and starts again: it drains within 10 s, and traffic flows without anybody's hand.
# long: relay-kill shows the same, without the farewell
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat relay-only
lab_network
lab_oracle restarted a b --seconds 18 --max-gap-ms 19000 &
oracle=$!
lab_frames_pass a 500
began=$(lab_now_ms)
stop relay
drained=$(($(lab_now_ms) - began))
lab_measure "relay drained in" "$drained" ms 10000
[[ $drained -le 10000 ]] || lab_fail "the relay took $drained ms to end"
lab_hold 3 "no relay"
up=$(lab_now_ms)
# The clients pinned the relay's key, so this also shows that it kept it.
lab_relay
wait "$oracle" || lab_fail "frames were lost with the relay"
lab_back "relay up to frames" restarted "$up" 2000
for host in a b; do
    lab_expect "$host is on the relay" lab_path "$host" relay-ws
    lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
done
lab_all_connected 5
