# shellcheck shell=bash
# Two hosts claim one address: a derived one gives way, one given by hand stays, and both sides are told.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_relay
lab_up a --relay "$RELAY_TICKET"
lab_invite a
lab_up b "$INVITE"
lab_wait 20 "a to be connected to b" lab_connected a 1
taken=$(lab_address b)
# c is told by hand to take the address that b derived for itself.
lab_up c "$INVITE" --address "$taken/16"
lab_wait 20 "c to be connected to all" lab_connected c 2
told() { grep -qF "$taken is also used" "$LAB_OUT/$1.log" "$LAB_OUT/$1.out"; }
settled() { [[ $(lab_address b) != "$taken" ]] || { told b && told c; }; }
# Whose key is lower decides whether b keeps its address or derives another; c's was given by hand and stays either way.
# If both stay, nobody is reached for certain at $taken, so both must say so (protocol §1.6).
lab_wait 10 "b to move away from $taken, or both b and c to say that two have it" settled
step "b has $(lab_address b), c has $(lab_address c)"
[[ $(lab_address c) == "$taken" ]] || lab_fail "the address given by hand gave way"
if [[ $(lab_address b) != "$taken" ]]; then
    lab_wait 5 "b's device to have the new address" on b sh -c "ip address show dev $(lab_device b) | grep -q '$(lab_address b)/'"
    lab_expect "the old one is gone from b" test -z "$(on b ip -o address show to "$taken/32")"
    lab_expect "b is reachable at its new address" on a ping -c 3 -i 0.3 -W 2 "$(lab_address b)"
    lab_expect "c is reachable at the one given by hand" on a ping -c 3 -i 0.3 -W 2 "$taken"
    lab_wait 5 "b to have said that it moved" grep -qF "$(lab_address b)" "$LAB_OUT/b.log" "$LAB_OUT/b.out"
fi
