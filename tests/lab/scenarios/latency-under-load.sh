# shellcheck shell=bash
# Behind a line of 20 Mbit/s that buffers 50 ms a ping waits less than 100 ms while TCP fills the tunnel, on every kind of path.
. "$(dirname "$0")/../lib.sh"
LAB_NO_CAPTURE=1
RATE=20mbit BUFFER=50ms LIMIT_MS=100
FLOWS=${LAB_FLOWS:-4} SECONDS_EACH=$(quick 4 5)
lab_topology relay_two_nat open
# What most machines send by: it fills whatever buffer it finds.
for host in a b relay; do on "$host" sysctl -qw "net.ipv4.tcp_congestion_control=${LAB_CONGESTION:-reno}"; done
lab_network
address=$(lab_address b)
start server b iperf3 --server
lab_wait 10 "the iperf3 server" on b sh -c "ss -Hltn | grep -q :5201"

# narrow SIDE, wide — the line of that side, towards the internet (a's) or from it (b's).
narrow() {
    local at=ra device=wan
    if [[ $1 == down ]]; then at=net device=p-rb; fi
    on "$at" tc qdisc replace dev "$device" root tbf rate "$RATE" burst 16kb latency "$BUFFER"
}
wide() {
    on ra tc qdisc del dev wan root 2>/dev/null || true
    on net tc qdisc del dev p-rb root 2>/dev/null || true
}
# percentile FILE P — of the round trips of a ping, ms; one that was lost counts as a second.
percentile() {
    awk -v p="$2" '/ time=/ { sub(/.* time=/, ""); print $1 + 0; seen++ } /packets transmitted/ { for (; seen < $1; seen++) print 1000 }' "$1" |
        sort -n | awk -v p="$2" '{ all[NR] = $1 } END { at = int(NR * p + 0.999999); print all[at < 1 ? 1 : at] }'
}
# under NAME ADDRESS — pings while TCP from a to b has been filling the way for a second.
under() {
    local name=$1 to=$2 load
    on a iperf3 --client "$to" --parallel "$FLOWS" --time "$((SECONDS_EACH + 2))" --json >"$LAB_OUT/$name.load.json" 3>&- &
    load=$!
    lab_hold 1.5 "$name fills"
    on a ping -i 0.02 -W 1 -c "$((SECONDS_EACH * 50))" "$to" >"$LAB_OUT/$name.ping" || true
    wait "$load" || lab_fail "iperf3 of $name: $(jq -r .error "$LAB_OUT/$name.load.json")"
    jq -nc --arg name "$name" --argjson p50 "$(percentile "$LAB_OUT/$name.ping" 0.5)" --argjson p99 "$(percentile "$LAB_OUT/$name.ping" 0.99)" \
        --argjson sent "$(grep -c icmp_seq "$LAB_OUT/$name.ping")" \
        --slurpfile load "$LAB_OUT/$name.load.json" \
        '{name: $name, p50_ms: $p50, p99_ms: $p99, answered: $sent, mbit: ($load[0].end.sum_received.bits_per_second / 1e5 | round / 10), again: $load[0].end.sum_sent.retransmits}' |
        tee -a "$LAB_OUT/figures.jsonl"
}
for side in up down; do
    narrow "$side"
    under "plain-$side" 203.0.113.34
    wide
    for kind in ${LAB_KINDS:-$(quick relay-ws "relay-ws direct-tcp relay-udp direct-udp")}; do
        on a shadowmesh path b --use "$(case $kind in direct-udp) echo direct ;; *) echo "$kind" ;; esac)" >/dev/null
        for host in a b; do lab_wait 5 "$host to be on $kind" lab_path "$host" "$kind"; done
        narrow "$side"
        under "$kind-$side" "$address"
        for host in a b; do lab_expect "$host was on $kind" lab_path "$host" "$kind"; done
        wide
    done
done
