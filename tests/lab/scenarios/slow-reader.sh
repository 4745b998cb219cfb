# shellcheck shell=bash
# One member stops reading for a while and is flooded meanwhile: the others lose nothing, and it comes back by itself.
# long: about the relay's queues, which its own tests fill
. "$(dirname "$0")/../lib.sh"
# No transfer beside: a reader is slow.
LAB_BESIDE=''
lab_topology relay_three_nat
lab_network
lab_oracle before a b --seconds 1
relay_before=$(awk '/^VmRSS:/ { print $2 }' "/proc/${LAB_PID[relay]}/status")
kill -STOP "${LAB_PID[c]}"
# c keeps its address and MAC in everybody's tables; what goes to it piles up somewhere and must be bounded.
"$LAB_TOOLS/oracle" run --rate 20000 --seconds 7 --settle-ms 0 --a "$LAB-a:smesh0" --b "$LAB-c:smesh0" >"$LAB_OUT/flood.json" 2>/dev/null &
flood=$!
lab_oracle beside-the-flood a b --seconds 6 --rate 500
wait "$flood" || true
relay_after=$(awk '/^VmRSS:/ { print $2 }' "/proc/${LAB_PID[relay]}/status")
[[ $(jq .a_to_b.received "$LAB_OUT/flood.json") -eq 0 ]] || lab_fail "c was not asleep"
lab_measure "the relay grew by" "$((relay_after - relay_before))" kB
[[ $((relay_after - relay_before)) -lt 40000 ]] || lab_fail "the relay keeps what nobody reads"
kill -CONT "${LAB_PID[c]}"
lab_recovers "reading again to frames" a c 2000
lab_wait 10 "all to be connected" lab_all_connected 5
