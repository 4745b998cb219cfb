# shellcheck shell=bash
# Two networks share one relay and know nothing of each other, although they are given the same addresses.
# long: the relay's own tests keep networks apart
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_host d 4
lab_nat d port-restricted
lab_relay
lab_up a --relay "$RELAY_TICKET"
lab_invite a
lab_up b "$INVITE"
lab_up c --relay "$RELAY_TICKET"
lab_invite c
lab_up d "$INVITE"
for host in a b c d; do lab_wait 20 "$host to be connected" lab_connected "$host" 1; done
[[ $(lab_status a .network.id) != "$(lab_status c .network.id)" ]] || lab_fail "one network where there should be two"
for host in a b c d; do
    [[ $(lab_status "$host" '.peers | length') -eq 1 ]] || lab_fail "$host knows more than its one peer"
done
before=$(on d cat "/sys/class/net/$(lab_device d)/statistics/rx_packets")
lab_oracle broadcast-in-the-first a b --seconds 3 --to broadcast --rate 100
strayed=$(($(on d cat "/sys/class/net/$(lab_device d)/statistics/rx_packets") - before))
[[ $strayed -lt 50 ]] || lab_fail "$strayed frames of the first network came to the second"
# An address of the first network leads nowhere in the second, even when it is asked for there.
on c ip address add "$(lab_address a)/32" dev "$(lab_device c)"
if on d ping -c 1 -W 1 "$(lab_address b)" >/dev/null 2>&1; then lab_fail "d reaches b across two networks"; fi
step "ok: nothing passes between the two"
