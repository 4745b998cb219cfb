# shellcheck shell=bash
# A thousand frames a second both ways over the relay for a minute, with a rekey every 2 s: nothing lost.
# long: relay-kill and rekey-idle show the same in parts
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat relay-only
lab_network --rekey-interval 2s
before=$(lab_status a '.peers[0].handshake.rekeys')
lab_oracle minute a b --rate 1000 --seconds "${LAB_SECONDS:-60}"
after=$(lab_status a '.peers[0].handshake.rekeys')
lab_measure "rekeys meanwhile" "$((after - before))" times
[[ $((after - before)) -ge $((${LAB_SECONDS:-60} / 4)) ]] || lab_fail "only $((after - before)) rekeys: the interval is not obeyed"
lab_expect "still over the relay" lab_status a '.peers[0].path.kind == "relay-ws" or error'
