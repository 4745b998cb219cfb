# shellcheck shell=bash
# Rekeys while nothing is sent: the first frames after a silence are not lost, and there are as many rekeys as there should be.
# long: twenty seconds of nothing
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat "${LAB_TYPE:-relay-only}"
lab_network --rekey-interval 2s
before=$(lab_status a '.peers[0].handshake.rekeys')
for silence in 3 5 7; do
    lab_hold "$silence" "silence"
    lab_oracle "after-$silence-s" a b --seconds 1
done
after=$(lab_status a '.peers[0].handshake.rekeys')
lab_measure "rekeys in 18 s" "$((after - before))" times
[[ $((after - before)) -ge 5 && $((after - before)) -le 20 ]] || lab_fail "$((after - before)) rekeys in 18 s at an interval of 2 s"
