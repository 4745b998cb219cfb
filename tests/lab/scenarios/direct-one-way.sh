# shellcheck shell=bash
# A direct path that begins to work one way only carries nobody's data: exactly one move, and it stays.
# long: not part of scripts/test
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
# Nothing direct is left when UDP fails.
lab_block_tcp a
lab_wire a ''
lab_network
lab_direct a b
seconds=${LAB_SECONDS:-${LAB_QUICK:+12}}
seconds=${seconds:-300}
lab_oracle one-way a b --seconds "$((seconds + 5))" --max-gap-ms 3000 &
oracle=$!
lab_wait 5 "frames to pass" lab_status a '.peers[0].rx_frames > 500 or error'
lab_wire_change a a-to-b only=peer-udp,block
lab_wait 3 "a to be on the relay" lab_path a relay-udp
lab_wait 3 "b to be on the relay" lab_path b relay-udp
lab_hold "$seconds" "nothing passes from a to b directly"
wait "$oracle" || lab_fail "frames were lost"
lab_measure "longest silence" "$(lab_longest_gap one-way)" ms
for host in a b; do
    lab_expect "$host on the relay" lab_path "$host" relay-udp
    [[ $(lab_switches "$host") == 2 ]] || lab_fail "$host moved $(lab_switches "$host") times in all"
done
