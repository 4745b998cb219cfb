# shellcheck shell=bash
# A host moves to another router and back, as a laptop from one network to the next: nothing is lost, and it is direct again at once. (What is
# sent again comes behind what is new.)
# long: uplink-family moves the same hosts, between families as well
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_second_uplink a
lab_second_uplink b
lab_network
lab_direct a b
moves=("a eth1" "a eth0" "b eth1" "b eth0")
if [[ -n ${LAB_QUICK:-} ]]; then moves=("a eth1" "b eth1"); fi
for move in "${moves[@]}"; do
    read -r host device <<<"$move"
    lab_oracle "$host-$device" a b --seconds "$(quick 7 9)" --max-reordered 100000 --max-gap-ms 3000 &
    oracle=$!
    lab_frames_pass a 500
    lab_uplink "$host" "$device"
    began=$(lab_now_ms)
    other=a
    if [[ $host == a ]]; then other=b; fi
    from="198.51.100.1${LAB_NUMBER[$host]}"
    if [[ $device == eth1 ]]; then from="198.51.100.4${LAB_NUMBER[$host]}"; fi
    lab_wait 15 "$other to send to $from" lab_status "$other" "(.peers[0].path.remote | startswith(\"$from:\")) or error"
    lab_direct a b 15
    lab_within "another router to direct again" "$(($(lab_now_ms) - began))" 5000
    wait "$oracle" || lab_fail "frames were lost when $host moved to $device"
    lab_silence "longest silence, another router" "$host-$device" 1000
done

if [[ -n ${LAB_QUICK:-} ]]; then exit 0; fi
# Both at once.
lab_oracle both a b --seconds 12 --max-reordered 100000 --max-gap-ms 3000 &
oracle=$!
lab_frames_pass a 500
lab_uplink a eth1
lab_uplink b eth1
began=$(lab_now_ms)
lab_wait 15 "a to send to b's other router" lab_status a '(.peers[0].path.remote | startswith("198.51.100.42:")) or error'
lab_wait 15 "b to send to a's other router" lab_status b '(.peers[0].path.remote | startswith("198.51.100.41:")) or error'
lab_direct a b 15
lab_within "another router for both to direct again" "$(($(lab_now_ms) - began))" 5000
wait "$oracle" || lab_fail "frames were lost when both moved"
lab_silence "longest silence, another router for both" both 1000
