# shellcheck shell=bash
# The cable is out for 1, 5 and, at full length, 30 s: what fits the ring arrives, and it goes on directly as soon as it is in again.
# long: not part of scripts/test
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_network
lab_direct a b
spans=(1 5)
if [[ -z ${LAB_QUICK:-} ]]; then spans+=(30); fi
for seconds in "${spans[@]}"; do
    # 400 frames/s of 700 bytes each way: 30 s are 8 MB and 12,000 packets, less than the ring holds; what is older than 5 s when
    # the cable comes back is given up by both ends and counted.
    lab_oracle "down-$seconds" a b --rate 400 --seconds "$((seconds + 6))" --max-lost "$((seconds > 4 ? (seconds - 4) * 400 + 800 : 0))" --max-reordered 100000 --max-gap-ms "$((seconds * 1000 + 3000))" &
    oracle=$!
    lab_frames_pass a 200
    ip -n "$LAB-ra" link set lan down
    lab_hold "$seconds" "a's cable is out"
    ip -n "$LAB-ra" link set lan up
    began=$(lab_now_ms)
    lab_wait 10 "a to be connected" lab_connected a 1
    lab_measure "cable in to connected, after $seconds s" "$(($(lab_now_ms) - began))" ms
    lab_direct a b 30
    lab_measure "cable in to direct, after $seconds s" "$(($(lab_now_ms) - began))" ms
    wait "$oracle" || lab_fail "more was lost than may be"
done
