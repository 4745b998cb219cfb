# shellcheck shell=bash
# Every packet over 600 bytes is dropped, on every path, while small ones pass: within three seconds nobody says connected.
. "$(dirname "$0")/../lib.sh"
# No transfer beside: what is large is dropped.
LAB_BESIDE=''
lab_topology relay_two_nat
lab_wire a ''
lab_network
lab_direct a b
rounds=${LAB_QUICK:+1}
rounds=${rounds:-20}
not_connected() { lab_status "$1" '.peers[0].state != "connected" or error'; }
slowest=0
for ((round = 1; round <= rounds; round++)); do
    # Small frames, answered, all the time.
    lab_oracle "small-$round" a b --rate 200 --min-frame 60 --max-frame 120 --seconds 8 --max-lost 2000 --max-reordered 2000 &
    oracle=$!
    lab_frames_pass a 50
    lab_wire_change a both mtu=600
    began=$(lab_now_ms)
    for host in a b; do lab_wait 9 "$host not to say connected" not_connected "$host"; done
    took=$(($(lab_now_ms) - began))
    [[ $took -le $slowest ]] || slowest=$took
    wait "$oracle" || lab_fail "frames came twice or damaged"
    lab_wire_change a both ''
    lab_all_connected 20
    lab_direct a b 60
done
lab_measure "large packets dropped to nobody connected, slowest of $rounds" "$slowest" ms
