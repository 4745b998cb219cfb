# shellcheck shell=bash
# Under load the session moves from the relay onto a direct path, 20 ms long, behind two port-restricted routers: nothing is lost,
# doubled or out of order, and the relay sees no more of it.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_wire a delay=5ms
lab_wire b delay=5ms
# UDP is dropped until the load runs.
lab_block_udp a
lab_block_tcp a
lab_network
lab_expect "over the relay" lab_path a relay-ws

lab_oracle move a b --rate 1000 --seconds "$(quick 7 12)" --max-gap-ms 90 &
oracle=$!
lab_wait 10 "frames to pass" lab_status a '.peers[0].rx_frames > 1000 or error'
lab_allow_udp a
began=$(lab_now_ms)
# A new address is a changed network: tried at once.
ip -n "$LAB-a" address add 192.168.11.77/32 dev eth0
lab_direct a b 3
lab_within "UDP passes to direct" "$(($(lab_now_ms) - began))" 3000
wait "$oracle" || lab_fail "the move was felt"
# A round trip and 10 ms.
lab_silence "longest silence" move 30
for host in a b; do
    [[ $(lab_switches "$host") == 1 ]] || lab_fail "$host moved $(lab_switches "$host") times"
    lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
done
lab_measure "round trip at a" "$(lab_status a '.peers[0].path.rtt_ms')" ms

# The relay has nothing to do any more.
lab_relay_rests direct a b "$(quick 3 5)"
