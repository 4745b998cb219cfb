# shellcheck shell=bash
# What the relay spends on a pair that says nothing and goes direct: it introduces the two and is not needed any more.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_relay
lab_up a --relay "$RELAY_TICKET"
lab_invite a
lab_wait 10 "a to be registered" lab_status a '.relays[0].state == "connected" or error'
# Everything that crosses the relay's device, both ways, headers of Ethernet, IP, TCP and WebSocket included.
bytes() { on relay sh -c 'echo $(($(cat /sys/class/net/eth0/statistics/tx_bytes) + $(cat /sys/class/net/eth0/statistics/rx_bytes)))'; }
sent() { on relay cat /sys/class/net/eth0/statistics/tx_bytes; }
before=$(bytes) sent_before=$(sent)
lab_up b "$INVITE"
lab_direct a b 10
# RELEASE was said, and what was repeated has come to its end.
lab_hold 5 "everything to be said"
spent=$(($(bytes) - before))
lab_measure "bytes that crossed the relay for the pair, from b's first packet on" "$spent" bytes
lab_measure "of them, sent by the relay" "$(($(sent) - sent_before))" bytes
[[ $spent -le 30000 ]] || lab_fail "$spent bytes: the target is 10000"
lab_expect "the relay counts it as direct" on relay sh -c "shadowmesh-relay status --json | jq -e '.pairs.direct == 1'"
