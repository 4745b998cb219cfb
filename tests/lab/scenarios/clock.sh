# shellcheck shell=bash
# A clock that says less than was seen, as that of a machine without a battery does: what has ended stays so, it is said, and the network works.
# What was seen is put into the state directory, two days ahead of this machine's clock, which is as if the clock were two days behind.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_relay
lab_expect "a network with certificates is made" on a shadowmesh network create office --relay "$RELAY_TICKET" --name a
lab_up a
invite() { on a shadowmesh invite --expires "$1" --uses any 2>/dev/null; }
for_a_day=$(invite 24h) for_a_week=$(invite 7d)

lab_up b "$for_a_week" --name b
lab_wait 20 "a and b to be connected" lab_connected b 1
lab_expect "a clock that is right is no news" lab_status b '.clock == null or error'
stop b
lab_expect "what was seen is kept at the end" on b grep -q '^seen = [0-9]*$' /var/lib/shadowmesh/clock
lab_expect "for its owner alone" on b sh -c '[ "$(stat -c %a /var/lib/shadowmesh/clock)" = 600 ]'

behind=172800
sees() { on "$1" sh -c "echo 'seen = $(($(date +%s) + $2))' >/var/lib/shadowmesh/clock"; }
sees b $behind
lab_up b
lab_wait 20 "a and b to be connected" lab_connected b 1
lab_expect "the daemon goes by what was seen" lab_status b ".clock | (.reckoned - .says - $behind | . >= -5 and . <= 60) or error"
lab_expect "status says so" sh -c "nsenter --target ${LAB_HOLDER[b]} --net --mount --uts -- shadowmesh status | grep -q 'clock *says'"
report=$(on b shadowmesh doctor --json || true)
jq -e '.findings[] | select(.id == "clock") | .sentence | test("earlier than .* which was seen")' <<<"$report" >/dev/null ||
    lab_fail "doctor does not say so: $report"
lab_oracle reckoned a b --seconds "$(quick 2 5)"
stop b
kept() { on b sed -n 's/^seen = //p' /var/lib/shadowmesh/clock; }
[[ $(kept) -ge $(($(date +%s) + behind - 5)) ]] || lab_fail "what was seen went back: $(kept)"

# An invite that has ended by what was seen is not taken, whatever the clock says.
lab_up c "$for_a_week" --name c
lab_wait 20 "c to be connected to a" lab_connected c 1
lab_expect "c leaves" on c shadowmesh leave
lab_wait 12 "the daemon of c to end" stopped c
sees c $behind
if on c shadowmesh up "$for_a_day" --name c >"$LAB_OUT/expired.out" 2>&1; then lab_fail "an invite that has ended was taken"; fi
lab_expect "and it is said why" grep -q 'has expired' "$LAB_OUT/expired.out"

# Who knows better removes what was seen.
lab_expect "it is removed" on c rm /var/lib/shadowmesh/clock
lab_up c "$for_a_day" --name c
lab_wait 20 "c to be connected to a" lab_connected c 1
lab_expect "a clock that is right is no news" lab_status c '.clock == null or error'
