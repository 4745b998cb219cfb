# shellcheck shell=bash
# Behind a line of 20 Mbit/s that buffers 50 ms a ping waits less than 100 ms while TCP fills the tunnel, on every kind of path.
. "$(dirname "$0")/../lib.sh"
LAB_NO_CAPTURE=1
RATE=20mbit BUFFER=50ms
# Promised: over the relay's stream; and anywhere three times what the plain line takes, or 20 ms, whichever is more.
RELAYED_MS=100 LEAST_MS=20
FLOWS=4 SECONDS_EACH=$(quick 4 5)
lab_topology relay_two_nat open
# The flows in the tunnel, and connections that do not choose for themselves, fill whatever buffer they find, as on most machines.
for host in a b relay; do on "$host" sysctl -qw net.ipv4.tcp_congestion_control=reno; done
lab_network
address=$(lab_address b)
start server b iperf3 --server
lab_wait 10 "the iperf3 server" on b sh -c "ss -Hltn | grep -q :5201"

# narrow SIDE, wide — the line of a towards the internet (up), or of b from it (down).
narrow() {
    local at=ra device=wan
    if [[ $1 == down ]]; then at=net device=p-rb; fi
    on "$at" tc qdisc replace dev "$device" root tbf rate "$RATE" burst 16kb latency "$BUFFER"
}
wide() {
    on ra tc qdisc del dev wan root 2>/dev/null || true
    on net tc qdisc del dev p-rb root 2>/dev/null || true
}
# percentile FILE SHARE — of the round trips of a ping, ms; one that was lost counts as a second.
percentile() {
    awk '/ time=/ { sub(/.* time=/, ""); print $1 + 0; seen++ } /packets transmitted/ { for (; seen < $1; seen++) print 1000 }' "$1" |
        sort -n | awk -v share="$2" '{ all[NR] = $1 } END { at = int(NR * share + 0.999999); print all[at < 1 ? 1 : at] }'
}
# pinged NAME ADDRESS SECONDS — 50 a second.
pinged() { on a ping -i 0.02 -W 1 -c "$((50 * $3))" "$2" >"$LAB_OUT/$1.ping" || true; }
# loaded NAME ADDRESS — pings while TCP from a to b has been filling the way for a while; p99 in P99.
loaded() {
    local name=$1 load
    pinged "$name-idle" "$2" 1
    on a iperf3 --client "$2" --parallel "$FLOWS" --time "$((SECONDS_EACH + 2))" --json >"$LAB_OUT/$name.load.json" 3>&- &
    load=$!
    lab_hold 1.5 "$name fills"
    pinged "$name" "$2" "$SECONDS_EACH"
    wait "$load" || lab_fail "iperf3 of $name: $(jq -r .error "$LAB_OUT/$name.load.json")"
    P99=$(percentile "$LAB_OUT/$name.ping" 0.99)
    jq -nc --arg name "$name" --argjson idle "$(percentile "$LAB_OUT/$name-idle.ping" 0.99)" --argjson p50 "$(percentile "$LAB_OUT/$name.ping" 0.5)" \
        --argjson p99 "$P99" --argjson answered "$(grep -c icmp_seq "$LAB_OUT/$name.ping")" --slurpfile load "$LAB_OUT/$name.load.json" \
        '{name: $name, idle_p99_ms: $idle, p50_ms: $p50, p99_ms: $p99, answered: $answered,
          mbit: ($load[0].end.sum_received.bits_per_second / 1e5 | round / 10), again: $load[0].end.sum_sent.retransmits}' |
        tee -a "$LAB_OUT/figures.jsonl"
}
for side in up down; do
    narrow "$side"
    loaded "plain-$side" 203.0.113.34
    plain=$P99
    wide
    for kind in $(quick relay-ws "relay-ws direct-tcp relay-udp direct-udp"); do
        on a shadowmesh path b --use "${kind/direct-udp/direct}" >/dev/null
        for host in a b; do lab_wait 5 "$host to be on $kind" lab_path "$host" "$kind"; done
        narrow "$side"
        loaded "$kind-$side" "$address"
        for host in a b; do lab_expect "$host was on $kind" lab_path "$host" "$kind"; done
        wide
        limit=$(jq -n "[3 * $plain, $LEAST_MS] | max | ceil")
        if [[ $kind == relay-ws ]]; then limit=$RELAYED_MS; fi
        lab_within "$kind, line $side: p99 of pings under load" "$(jq -n "$P99 | ceil")" "$limit"
    done
done
