# shellcheck shell=bash
# Twenty planned moves from the direct path to a relay that is 100 ms slower and back, under load: both ends follow, every frame
# comes once and in order, and the silence is the difference of the two paths.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_wire relay delay=50ms
lab_network
lab_direct a b
moves=${LAB_MOVES:-20}
lab_oracle planned a b --seconds "$((moves + 6))" --max-gap-ms 330 &
oracle=$!
lab_wait 5 "frames to pass" lab_status a '.peers[0].rx_frames > 500 or error'
declare -A before=([a]=$(lab_switches a) [b]=$(lab_switches b))
for ((n = 0; n < moves; n++)); do
    # Asked at either end in turn.
    if ((n % 2)); then at=a peer=b; else at=b peer=a; fi
    on "$at" shadowmesh path "$peer" --use relay --json >>"$LAB_OUT/moves.json"
    lab_wait 2 "both ends to be on the relay ($n)" lab_path "$peer" relay-udp
    on "$peer" shadowmesh path "$at" --use direct --json >>"$LAB_OUT/moves.json"
    lab_wait 2 "both ends to be direct ($n)" lab_path "$at" direct-udp
done
kill -0 "$oracle" 2>/dev/null || lab_fail "the moves took longer than the frames"
wait "$oracle" || lab_fail "the moves were felt"
for host in a b; do
    lab_moved "$host" "$((2 * moves))" "${before[$host]}"
    lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
done
# The relay is 100 ms slower.
lab_silence "longest silence" planned 110
jq .took_ms "$LAB_OUT/moves.json" | while read -r took; do lab_measure "a move, as path --use says" "$took" ms; done
lab_expect "and status says what the last one cost" lab_status a '.peers[0].last_switch | (.to == "direct-udp" and .lost == 0 and .reordered == 0 and (.gap_ms | type) == "number") or error'
for host in a b; do
    if [[ $host == a ]]; then way=b_to_a; else way=a_to_b; fi
    lab_costs_alike "$host" planned "$way" more
    lab_expect "$host got nothing twice" lab_status "$host" '.peers[0].last_switch | (.duplicates == 0 and .resent == 0 and .lost == 0) or error(tostring)'
done
on a shadowmesh path b --use auto >/dev/null
# What cannot be is refused with a reason, and nothing changes.
lab_block_tcp a
if on a shadowmesh path b --use direct-tcp --timeout 1 >"$LAB_OUT/refused.txt" 2>&1; then lab_fail "direct-tcp where there is none"; fi
grep -q 'no such path to b is proven' "$LAB_OUT/refused.txt" || lab_fail "refused with: $(cat "$LAB_OUT/refused.txt")"
lab_expect "still direct" lab_path a direct-udp
