# shellcheck shell=bash
# What the relay spends on a pair that says nothing and goes direct: it introduces the two, at most 10 KB, and is not needed any more. Where they have to
# show each other certificates first it carries those as well.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_relay
lab_up a --relay "$RELAY_TICKET" --certificates off
lab_invite a
lab_wait 10 "a to be registered" lab_status a '.relays[0].state == "connected" or error'

# Spent is what the relay sends, headers of Ethernet, IP, TCP and WebSocket included; what it receives is told as well. A host costs that by
# being registered (link handshake, REGISTER, STUN, heartbeats), with or without a pair; so this is taken off, as a host of another network
# costs it in as long a time. What is left is the pair's: introduction, its handshake, its first packets until it is direct, RELEASE.
SPAN=$(quick 6 8)
counter() { on relay cat "/sys/class/net/eth0/statistics/$1"; }
declare -A cost=()
# costs NAME HOST ARGUMENT… — what crosses the relay from the start of HOST's daemon on, in SPAN seconds.
costs() {
    local name=$1 host=$2 sent received began
    shift 2
    sent=$(counter tx_bytes) received=$(counter rx_bytes) began=$(lab_now_ms)
    lab_up "$host" "$@"
    lab_wait 5 "$host to be registered" lab_status "$host" '.relays[0].state == "connected" or error'
    if [[ $name == pair ]]; then lab_direct a b; fi
    sleep "$((SPAN * 1000 + began - $(lab_now_ms)))e-3"
    cost[$name-sent]=$(($(counter tx_bytes) - sent)) cost[$name-received]=$(($(counter rx_bytes) - received))
    lab_measure "$name: sent by the relay in $SPAN s" "${cost[$name-sent]}" bytes
    lab_measure "$name: received by it" "${cost[$name-received]}" bytes
}
costs alone c --relay "$RELAY_TICKET" --certificates off
stop c
costs pair b "$INVITE"
spent=$((cost[pair-sent] - cost[alone-sent]))
lab_measure "the relay spent on the pair" "$spent" bytes 10240
[[ $spent -gt 0 ]] || lab_fail "the pair cost less than none"
[[ $spent -le 10240 ]] || lab_fail "the relay spent $spent bytes on the pair: the target is 10 KB"
[[ $((cost[pair-received] - cost[alone-received])) -le 10240 ]] || lab_fail "the relay received $((cost[pair-received] - cost[alone-received])) bytes for the pair"
for host in a b; do lab_expect "$host is direct" lab_path "$host" direct-udp; done
lab_expect "the relay counts it as direct" on relay sh -c "shadowmesh-relay status --json | jq -e '.pairs.direct == 1 and .pairs.relayed == 0'"

# And then it is idle: the relay has two clients, and no pair.
forwarded=$(lab_forwarded) sent=$(counter tx_bytes)
idle=$(quick 6 60)
lab_hold "$idle" "nobody says anything"
sent=$(($(counter tx_bytes) - sent)) forwarded=$(($(lab_forwarded) - forwarded))
lab_measure "sent by the relay in $idle idle seconds" "$sent" bytes
lab_measure "of the pair's packets forwarded meanwhile" "$forwarded" bytes
[[ $forwarded -eq 0 ]] || lab_fail "the relay still forwards for a pair that is direct"
# Four heartbeats, each answered and acknowledged by TCP, and three answers by STUN in a minute of each client: 22 packets of at most 145 bytes.
[[ $sent -le 3200 ]] || lab_fail "two idle clients cost $sent bytes"
# Nor has it, when they say something.
lab_relay_rests busy a b 2

# With certificates (the usual network), when they meet first, and when they know each other. Each shows a chain with four signatures of ML-DSA-65 at most,
# 3,309 bytes each, and the public keys for them, 1,952 bytes: that may still go by the relay, before there is a direct path.
for host in a b; do stop "$host"; on "$host" shadowmesh leave >>"$LAB_OUT/leave.txt" 2>&1; done
lab_up a --relay "$RELAY_TICKET"
INVITE=$(on a shadowmesh invite)
for name in first again; do
    costs pair b "$INVITE"
    spent=$((cost[pair-sent] - cost[alone-sent]))
    lab_measure "the relay spent on a pair with certificates, $name" "$spent" bytes "$([[ $name == first ]] && echo 65536 || echo 32768)"
    [[ $spent -le $([[ $name == first ]] && echo 65536 || echo 32768) ]] || lab_fail "the relay spent $spent bytes on the pair"
    stop b
done
