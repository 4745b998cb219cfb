# shellcheck shell=bash
# A host moves to another router and back, as a laptop from one network to the next: nothing is lost, and it is direct again at once.
# long: not part of scripts/test
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_second_uplink a
lab_second_uplink b
lab_network
lab_direct a b
for move in "a eth1" "a eth0" "b eth1" "b eth0"; do
    read -r host device <<<"$move"
    lab_oracle "$host-$device" a b --seconds 9 --max-gap-ms 3000 &
    oracle=$!
    frames=$(lab_status a '.peers[0].rx_frames')
    lab_wait 5 "frames to pass" lab_status a ".peers[0].rx_frames > $frames + 500 or error"
    lab_uplink "$host" "$device"
    began=$(lab_now_ms)
    # The path of before may still be shown for a moment.
    gone() { lab_status "$1" '.peers[0].path.kind != "direct-udp" or error'; }
    lab_wait 3 "$host to notice" gone "$host"
    lab_direct a b 15
    lab_measure "$host on $device to direct again" "$(($(lab_now_ms) - began))" ms
    [[ $(($(lab_now_ms) - began)) -le 15000 ]] || lab_fail "$host on $device: direct only after $(($(lab_now_ms) - began)) ms"
    wait "$oracle" || lab_fail "frames were lost when $host moved to $device"
    lab_measure "longest silence, $host to $device" "$(lab_longest_gap "$host-$device")" ms
done
