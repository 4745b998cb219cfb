# shellcheck shell=bash
# A full mesh of 10, 25, 50 and 100 nodes on this machine: how soon, what it costs each of them and the relay, and how that grows.
# long: a hundred daemons
# LAB_NODES='10 100' takes these numbers of nodes, LAB_TYPE=port-restricted puts each behind a router of its own; without, none of them is behind one.
# They begin all at once, or one each LAB_EVERY seconds; LAB_UP='--idle-after 10s' is said to each `up`.
. "$(dirname "$0")/../lib.sh"
MESH=tests/lab/mesh.py
STEPS="$LAB_OUT/mesh.jsonl"
: >"$STEPS"
read -ra sizes <<<"${LAB_NODES:-$(quick 10 "10 25 50 100")}"
read -ra more <<<"${LAB_UP:-}"
idle_s=$(quick 6 30)
for size in "${sizes[@]}"; do [[ $size =~ ^[0-9]+$ && $size -ge 2 && $size -le 250 ]] || lab_fail "LAB_NODES: $size is no number from 2 to 250"; done
most=$(printf '%s\n' "${sizes[@]}" | sort -n | tail -1)

# Each host has a link of its own to the router that the relay is behind as well, and no bridge with all of them: on that each kernel would have to know each other
# one, and this machine's kernel has one table of neighbours for all its namespaces (gc_thresh3, 1024).
LAB_NO_CAPTURE=1
step "laying $((most + 1)) hosts"
lab_namespace net
on net sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
lab_namespace relay
# lab_link NAME DEVICE NETWORK — joins it to the router, at NETWORK.2.
lab_link() {
    ip -n "$LAB-net" link add "p-$1" type veth peer name "$2" netns "$LAB-$1"
    ip -n "$LAB-net" address add "$3.1/30" dev "p-$1"
    ip -n "$LAB-net" link set "p-$1" up
    ip -n "$LAB-$1" address add "$3.2/30" dev "$2"
    ip -n "$LAB-$1" link set "$2" up
    ip -n "$LAB-$1" route add default via "$3.1"
}
ip -n "$LAB-net" link add p-relay type veth peer name eth0 netns "$LAB-relay"
ip -n "$LAB-net" address add 198.51.100.1/24 dev p-relay
ip -n "$LAB-net" link set p-relay up
for address in "$RELAY_ADDRESS" 198.51.100.3; do ip -n "$LAB-relay" address add "$address/24" dev eth0; done
ip -n "$LAB-relay" link set eth0 up
ip -n "$LAB-relay" route add default via 198.51.100.1
# lab_member NAME N
lab_member() {
    lab_namespace "$1"
    LAB_HOSTS+=("$1")
    LAB_NUMBER[$1]=$2
    if [[ -z ${LAB_TYPE:-} ]]; then
        lab_link "$1" eth0 "198.18.$2"
        return
    fi
    [[ $LAB_TYPE == port-restricted ]] || lab_fail "LAB_TYPE: $LAB_TYPE is not laid here, only port-restricted"
    lab_namespace "r$1"
    lab_link "r$1" wan "198.18.$2"
    ip -n "$LAB-r$1" link add lan type veth peer name eth0 netns "$LAB-$1"
    ip -n "$LAB-r$1" link set lan up
    ip -n "$LAB-$1" link set eth0 up
    lab_lan "$1" "192.168.$2.1" "192.168.$2.2" 24
    on "r$1" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    lab_restricted "r$1"
    lab_does "$1" "$LAB_CONE" "the router of $1"
    on "r$1" conntrack -F >/dev/null 2>&1 || true
}
hosts=()
for ((n = 1; n <= most; n++)); do
    lab_member "n$n" "$n"
    hosts+=("n$n")
done
lab_member new "$((most + 1))"

# ── one size ────────────────────────────────────────────────────────────────────────────────────────────────────────

pids() { for host in "$@"; do echo "${LAB_PID[$host]}"; done; }
logs() { for host in "$@"; do echo "$LAB_OUT/$host.log"; done; }
# The daemons are asked from outside: their sockets are files.
ask() { shadowmesh --socket "$LAB_DIR/$1/run/shadowmesh/control.sock" status --json; }
counter() { on relay cat /sys/class/net/eth0/statistics/tx_bytes; }
# For the pings: who has which address.
addresses() { for host in "$@"; do echo "$LAB-$host ${address[$host]}"; done; }
# Every kernel is told the Ethernet address of every other, by hand, as its table would not hold them (see above).
tell_neighbours() {
    local host other lines
    for host in "$@"; do
        lines=$(for other in "$@"; do [[ $other == "$host" ]] || echo "neighbour replace ${address[$other]} lladdr ${mac[$other]} dev smesh0 nud permanent"; done)
        ip -n "$LAB-$host" -batch - <<<"$lines"
    done
}
begin_anew() {
    local label host
    for label in "${!LAB_PID[@]}"; do kill -TERM "${LAB_PID[$label]}" 2>/dev/null || true; done
    for label in "${!LAB_PID[@]}"; do stop "$label"; done
    for host in "${LAB_HOSTS[@]}" relay; do
        rm -rf "${LAB_DIR:?}/$host/var-lib/"* "${LAB_DIR:?}/$host/run/"*
        rm -f "$LAB_OUT/$host.log" "$LAB_OUT/$host.out"
    done
}

declare -A address=() mac=()
mesh() {
    local size=$1 others=$(($1 - 1)) began sent members=("${hosts[@]:0:$1}") host invite direct one
    step "$size nodes"
    begin_anew
    lab_relay
    # It is a machine of its own where there are a hundred members: here it would get a hundredth of two cores, and all would wait for it.
    renice -n -15 -p "${LAB_PID[relay]}" >/dev/null
    on n1 shadowmesh network create mesh --relay "$RELAY_TICKET" --name n1 >/dev/null 2>&1
    sent=$(counter)
    for host in "${members[@]}"; do : >"$LAB_OUT/$host.log"; done
    began=$(lab_now_ms)
    lab_up n1 "${more[@]}"
    invite=$(on n1 shadowmesh invite --uses any 2>/dev/null)
    for host in "${members[@]:1}"; do
        start "$host" "$host" shadowmesh up "$invite" --name "$host" "${more[@]}"
        if [[ -n ${LAB_EVERY:-} ]]; then sleep "$LAB_EVERY"; fi
    done
    mapfile -t one < <(logs "${members[@]}")
    python3 "$MESH" reached "$others" direct-udp 180 "${one[@]}" >"$LAB_OUT/direct.reached" &
    direct=$!
    python3 "$MESH" reached "$others" via 120 "${one[@]}" >"$LAB_OUT/connected.reached" || lab_fail "$size nodes are no full mesh"
    step "every one is connected to all others"
    wait "$direct" || lab_fail "$size nodes are not all direct"
    step "and directly"
    sent=$(($(counter) - sent))
    for host in "${members[@]}"; do
        IFS=' ' read -r "address[$host]" "mac[$host]" < <(ask "$host" | jq -r '.node | "\(.addresses[0] | split("/")[0]) \(.mac)"')
    done
    tell_neighbours "${members[@]}"

    # The last of what a new device makes its kernel say.
    lab_hold 10 "settling"
    step "idle for $idle_s s"
    mapfile -t one < <(pids "${members[@]}")
    python3 "$MESH" usage "$idle_s" "${LAB_PID[relay]}" >"$LAB_OUT/relay.usage" &
    python3 "$MESH" usage "$idle_s" "${one[@]}" >"$LAB_OUT/daemons.usage"
    wait $!
    step "every one pings every other"
    addresses "${members[@]}" | python3 "$MESH" ping 120 2000 >"$LAB_OUT/ping.pings" || lab_fail "not all of $size nodes reach all others: $(cat "$LAB_OUT/ping.pings")"
    for host in "${members[@]}"; do ask "$host"; done | jq -s '{handshakes: ([.[].peers[].handshake | select(. != null) | .rekeys + 1] | add / 2),
        paths: ([.[].peers[].path.kind] | group_by(.) | map({key: (.[0] // "none"), value: length}) | from_entries), lost: ([.[].peers[].lost] | add),
        moves: ([.[].peers[].switches] | add)}' >"$LAB_OUT/peers.status"
    on relay shadowmesh-relay status --json >"$LAB_OUT/relay.status"
    jq -cn --argjson nodes "$size" --argjson began "$began" --argjson sent "$sent" --slurpfile connected "$LAB_OUT/connected.reached" --slurpfile direct "$LAB_OUT/direct.reached" \
        --slurpfile daemons "$LAB_OUT/daemons.usage" --slurpfile relay "$LAB_OUT/relay.usage" --slurpfile ping "$LAB_OUT/ping.pings" --slurpfile peers "$LAB_OUT/peers.status" --slurpfile status "$LAB_OUT/relay.status" \
        'def since: map(. - $began) | {p50: .[(length - 1) / 2 | floor], max: .[-1]};
         {nodes: $nodes, pairs: ($nodes * ($nodes - 1) / 2), connected_ms: ($connected[0] | since), direct_ms: ($direct[0] | since), daemon: $daemons[0], relay: $relay[0],
          relay_sent_bytes: $sent, relay_forwarded_bytes: $status[0].forwarded_bytes, introductions: $status[0].introductions, relay_drops: ($status[0].drops | with_entries(select(.value != 0))),
          ping: $ping[0]} + $peers[0]' >>"$STEPS"
    for host in "${members[@]}"; do running "$host" || lab_fail "the daemon of $host ended: $(tail -3 "$LAB_OUT/$host.log")"; done
}

# What a size may cost, as this scenario is without settings: about twice what the table in tests/README.md has, so that a busy machine is no failure and
# a cost that grows otherwise than before is one. Memory of a daemon, resident and its own, and of the relay, MB; sent by the relay for each pair, kB; moves of a path.
declare -A bounds=(
    [10]="29 4 13 43 180"
    [25]="30 5.5 15 42 1200"
    [50]="33 8 19 56 5000"
    [100]="39 14 49 111 28000"
)
# at_most WHAT LIMIT UNIT FILTER — of the last size.
at_most() {
    local value
    value=$(tail -1 "$STEPS" | jq "$4 | . * 10 | round / 10")
    lab_measure "$1" "$value" "$3" "$2"
    jq -en "$value <= $2" >/dev/null || lab_fail "$1: $value $3, and it may be $2 $3 at most"
}
costs() {
    local size=$1 resident own relay sent moves
    [[ -n ${bounds[$size]:-} && -z ${LAB_TYPE:-}${LAB_UP:-}${LAB_EVERY:-} ]] || return 0
    read -r resident own relay sent moves <<<"${bounds[$size]}"
    at_most "$size nodes, memory of a daemon, resident (p50)" "$resident" MB '.daemon.rss_kb.p50 / 1024'
    at_most "$size nodes, memory of a daemon, its own (p50)" "$own" MB '.daemon.private_kb.p50 / 1024'
    at_most "$size nodes, memory of the relay, resident" "$relay" MB '.relay.rss_kb.max / 1024'
    at_most "$size nodes, sent by the relay for each pair" "$sent" kB '.relay_sent_bytes / .pairs / 1024'
    at_most "$size nodes, moves of a path" "$moves" moves .moves
}

for size in "${sizes[@]}"; do
    mesh "$size"
    costs "$size"
    lab_measure "$size nodes, up to full mesh" "$(tail -1 "$STEPS" | jq .connected_ms.max)" ms
    lab_measure "$size nodes, resident each (p50)" "$(tail -1 "$STEPS" | jq .daemon.rss_kb.p50)" kB
    lab_measure "$size nodes, idle CPU each (p50)" "$(tail -1 "$STEPS" | jq .daemon.cpu_pct.p50)" "% of a core"
done

# ── one more, and it is thrown out ──────────────────────────────────────────────────────────────────────────────────

members=("${hosts[@]:0:$size}")
invite=$(on n1 shadowmesh invite --uses 1 2>/dev/null)
began=$(lab_now_ms)
lab_up new "$invite" --name new "${more[@]}"
lab_wait 10 "new to have its address" lab_status new '.node.addresses[0] | length > 0 or error'
address[new]=$(lab_address new)
addresses "${members[@]}" new | python3 "$MESH" ping 60 2000 "$LAB-new" >"$LAB_OUT/new.pings" || lab_fail "not all reach one who comes to $size, or it them: $(cat "$LAB_OUT/new.pings")"
added=$(($(lab_now_ms) - began))
lab_took "one more comes to $size: pings with all, both ways" "$added" 5000
addresses "${members[@]}" new >"$LAB_OUT/all.addresses"
python3 "$MESH" silence "$LAB-new" 3 <"$LAB_OUT/all.addresses" >"$LAB_OUT/revoked.silence" 2>"$LAB_OUT/revoked.log" &
silence=$!
lab_wait 20 "all to answer it" grep -q 'all answer' "$LAB_OUT/revoked.log"
began=$(lab_now_ms)
lab_expect "new is revoked" on n1 shadowmesh revoke new
said=$(($(lab_now_ms) - began))
wait "$silence" || lab_fail "new was not cut off by all: $(cat "$LAB_OUT/revoked.silence" "$LAB_OUT/revoked.log")"
revoked=$(jq ".last_ms.max - $began | if . < 0 then 0 else . end" "$LAB_OUT/revoked.silence")
lab_within "revoked: until the last of $size answered it no more" "$revoked" 1000
jq -s --argjson added "$added" --argjson revoked "$revoked" --argjson said "$said" --argjson cores "$(nproc)" --arg behind "${LAB_TYPE:-no router}" \
    '{cores: $cores, each_behind: $behind, steps: ., one_more_ms: $added, revoked_ms: $revoked, revoke_said_ms: $said}' "$STEPS" >"$LAB_OUT/mesh.json"
jq -r '.steps as $steps | def row($what; f): [$what, ($steps[] | f)];
    def mb: . / 1024 * 10 | round / 10; def tenth: . * 10 | round / 10; def hundredth: . * 100 | round / 100; def both(f): "\(.p50 | f) / \(.max | f)";
    row("nodes"; .nodes), row("pairs"; .pairs), row("up to connected to all, s, p50 / max"; .connected_ms | both(. / 1000 | hundredth)),
    row("up to direct to all, s, p50 / max"; .direct_ms | both(. / 1000 | hundredth)),
    row("all ping all: s"; .ping.took_ms / 1000 | hundredth), row("  pings sent again"; .ping.sent_again), row("  first answer, ms, p50 / max"; .ping.first_answer_ms | both(tenth)),
    row("RSS of a daemon, MB, p50 / max"; .daemon.rss_kb | both(mb)), row("  PSS"; .daemon.pss_kb | both(mb)), row("  private"; .daemon.private_kb | both(mb)),
    row("idle CPU of a daemon, % of a core, p50 / max"; .daemon.cpu_pct | both(hundredth)), row("  context switches a second"; .daemon.wakeups_per_s | both(tenth)),
    row("  CPU so far, ms"; .daemon.cpu_ms | both(round)),
    row("RSS of the relay, MB"; .relay.rss_kb.max | mb), row("  idle CPU, % of a core"; .relay.cpu_pct.max | hundredth), row("  context switches a second"; .relay.wakeups_per_s.max | tenth),
    row("  CPU so far, ms"; .relay.cpu_ms.max | round),
    row("  sent until all were direct, kB"; .relay_sent_bytes / 1024 | round), row("  of it for each pair, bytes"; .relay_sent_bytes / .pairs | round), row("  introductions"; .introductions),
    row("handshakes in use, rekeys included"; .handshakes), row("moves of a path"; .moves), row("packets lost"; .lost) | @tsv' "$LAB_OUT/mesh.json" |
    column -t -s $'\t' >"$LAB_OUT/table.txt"
cat "$LAB_OUT/table.txt"
