# shellcheck shell=bash
# Two hosts of a network without certificates claim one address: a derived one gives way to one given by hand, whoever came first, and people are told.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_relay
lab_up a --relay "$RELAY_TICKET" --certificates off
lab_invite a
lab_up b "$INVITE"
lab_wait 20 "a to be connected to b" lab_connected a 1
has_left() { [[ $(lab_address "$1") != "$2" ]]; }

# A member: c is told by hand to take the address that b derived for itself and has had since.
taken=$(lab_address b)
lab_up c "$INVITE" --address "$taken/16"
lab_wait 20 "c to be connected to all" lab_connected c 2
lab_wait 10 "b to move away from $taken" has_left b "$taken"
step "b has $(lab_address b), c has $(lab_address c)"
[[ $(lab_address c) == "$taken" ]] || lab_fail "the address given by hand gave way"
lab_wait 5 "b's device to have the new address" on b sh -c "ip address show dev $(lab_device b) | grep -q '$(lab_address b)/'"
lab_expect "the old one is gone from b" test -z "$(on b ip -o address show to "$taken/32")"
lab_expect "b is reachable at its new address" on a ping -c 3 -i 0.3 -W 2 "$(lab_address b)"
lab_expect "c is reachable at the one given by hand" on a ping -c 3 -i 0.3 -W 2 "$taken"
lab_wait 5 "b to have said that it moved" grep -qF "$(lab_address b)" "$LAB_OUT/b.log" "$LAB_OUT/b.out"

# A newcomer: while b is away, a takes by hand what b has; b comes back and finds it taken.
taken=$(lab_address b)
stop b
stop a
lab_up a --address "$taken/16"
lab_up b
lab_wait 20 "b to be connected to all" lab_connected b 2
lab_wait 10 "b to take another than $taken" has_left b "$taken"
[[ $(lab_address a) == "$taken" ]] || lab_fail "the address given by hand gave way"
lab_expect "both are reachable" on c sh -c "ping -c 3 -i 0.3 -W 2 $taken && ping -c 3 -i 0.3 -W 2 $(lab_address b)"

# Two by hand: neither gives way, and both say so.
stop b
lab_up b --address "$taken/16"
told() { grep -qF "$taken is also used" "$LAB_OUT/$1.log" "$LAB_OUT/$1.out"; }
lab_wait 10 "a to say that two have $taken" told a
lab_wait 10 "b to say that two have $taken" told b
lab_oracle frames a c --seconds 2
