# shellcheck shell=bash
# What a relay forwards, what that costs it, and how it stands many clients; beside others. As root, after lib.sh, tests/lab/lib.sh and measure.sh; scripts/bench relay, whose document it prints.
#
# Everything runs in one namespace, over its loopback: a relay, and a program that is all of its clients. Both share the machine's cores, so what comes out in a second
# tells of both; what the relay takes of a processor for it tells of the relay alone, and is what sizes a machine. Rounds are interleaved.
PACKET=1200
AT=127.0.0.1:8443
RESULTS="$LAB_OUT/results.jsonl"
: >"$RESULTS"
LOAD="$LAB_TOOLS/examples/load"
IROH="$BENCH_TOOLS/bin/iroh-load"

# note_of CONTENDER METRIC VALUE
note_of() {
    # shellcheck disable=SC2034 # read by note
    local CONTENDER=$1
    note "$2" "${3:-}"
}
# CPU time of the relay so far, in milliseconds; nothing when it has ended.
relay_ms() { running relay-bench && echo $(($(side_ticks relay) * 1000 / TICKS)); }
relay_drops() { on relay shadowmesh-relay --state /var-lib/relay status --json 2>/dev/null | jq '[.drops[]] | add'; }
load() { on relay timeout 300 "$LOAD" "$@" 2>>"$LAB_OUT/load.log"; }

# serve_ours [ARGUMENTS] — a new relay; its ticket → $TICKET.
serve_ours() {
    rm -rf "$LAB_DIR/relay/var-lib/relay" "$LAB_OUT/relay-bench.out"
    cat >"$LAB_DIR/relay/run/relay.toml" <<'TOML'
[limits]
# One host is all of them.
connections = 30000
connections_per_address = 30000
connects_per_second = 1000000.0
connects_burst = 1000000.0
TOML
    start relay-bench relay shadowmesh-relay --state /var/lib/relay --config /run/relay.toml --listen "$AT" "$@"
    soon 10 grep -q '^relay ticket: smr1' "$LAB_OUT/relay-bench.out" || return 1
    TICKET=$(sed -n 's/^relay ticket: //p' "$LAB_OUT/relay-bench.out" | head -1)
}
serve_plain() { serve_ours --public "$AT"; }
serve_tls() { serve_ours --public "wss://$AT" --tls-cert /run/cert.pem --tls-key /run/key.pem; }
serve_iroh() {
    start relay-bench relay "$IROH" serve "$AT" "$@"
    soon 10 grep -q '^ready' "$LAB_OUT/relay-bench.out"
}
serve_coturn() {
    start relay-bench relay turnserver --listening-ip 127.0.0.1 --relay-ip 127.0.0.1 --listening-port 8443 --no-tls --no-dtls --no-auth --allow-loopback-peers --no-cli \
        --log-file stdout --simple-log --pidfile /run/turn.pid
    soon 10 on relay sh -c "ss -Hlun | grep -q ':8443 '"
}
relay_down() { stop relay-bench KILL; rm -f "$LAB_OUT/relay-bench.out"; }

# forwarded NAME PACKETS COMMAND… — what the command says was forwarded, and what the relay took for it.
forwarded() {
    local name=$1 packets=$2 before after said mbit
    shift 2
    before=$(relay_ms) || return 1
    if ! said=$("$@"); then
        step "$name, $packets packets: nothing was forwarded"
        return 1
    fi
    after=$(relay_ms) || return 1
    mbit=$(jq .mbit_s <<<"$said")
    note_of "$name" "gbit_$packets" "$(jq -n "$mbit / 1000")"
    # What it took a second for, of what it could take.
    note_of "$name" "per_core_$packets" "$(jq -n "$mbit * $BENCH_SECONDS / ([($after - $before), 1] | max)")"
    if jq -e 'has("lost_pct")' <<<"$said" >/dev/null; then note_of "$name" "lost_pct_$packets" "$(jq .lost_pct <<<"$said")"; fi
    if jq -e 'has("sent_mbit_s")' <<<"$said" >/dev/null; then note_of "$name" "lost_pct_$packets" "$(jq '[100 * (1 - .mbit_s / .sent_mbit_s), 0] | max' <<<"$said")"; fi
}
# coturn by its own load: a hundred clients send to a peer, who sends back, so that each packet is forwarded twice. How long it takes is mostly how long they take to begin, so
# what counts is what it costs.
forwarded_by_coturn() {
    local before after report each=$((BENCH_SECONDS * 500))
    start peer relay turnutils_peer -p 3480 -L 127.0.0.1
    soon 5 on relay sh -c "ss -Hlun | grep -q ':3480 '" || return 1
    before=$(relay_ms)
    report=$(on relay timeout 120 turnutils_uclient -e 127.0.0.1 -r 3480 -c -m 100 -n "$each" -l "$PACKET" -z 1 -p 8443 -u none -w none 127.0.0.1 2>&1) || true
    after=$(relay_ms)
    stop peer KILL
    printf '%s\n' "$report" >"$LAB_OUT/turnutils.log"
    report=$(sed -n 's/.*start_mclient: tot_send_msgs=\([0-9]*\), tot_recv_msgs=\([0-9]*\)$/[\1, \2]/p' <<<"$report" | tail -1)
    [[ -n $report ]] || return 1
    note_of coturn per_core_1 "$(jq -n "($report | add) * $PACKET * 8 / 1000000 / ([($after - $before), 1] | max)")"
    note_of coturn lost_pct_1 "$(jq -n "$report | 100 * (1 - .[1] / .[0])")"
}

# One contender: its relay, and how it is loaded.
throughput_of() {
    local name=$1 packets up
    case $name in
    relay-ws | relay-udp) up=serve_plain ;;
    relay-wss) up=serve_tls ;;
    iroh) up=serve_iroh ;;
    iroh-tls) up='serve_iroh tls' ;;
    coturn) up=serve_coturn ;;
    esac
    if ! $up; then
        step "$name did not come up"
        relay_down
        return
    fi
    for packets in $BENCH_BATCHES; do
        case $name in
        relay-ws | relay-wss) forwarded "$name" "$packets" load pump "$TICKET" --packets "$packets" --seconds "$BENCH_SECONDS" ;;
        relay-udp) forwarded "$name" "$packets" load pump "$TICKET" --udp --packets "$packets" --seconds "$BENCH_SECONDS" ;;
        iroh) forwarded "$name" "$packets" on relay timeout 60 "$IROH" pump "$AT" "$packets" "$BENCH_SECONDS" ;;
        iroh-tls) forwarded "$name" "$packets" on relay timeout 60 "$IROH" pump "$AT" tls "$packets" "$BENCH_SECONDS" ;;
        coturn) if [[ $packets == 1 ]]; then forwarded_by_coturn; fi ;;
        esac || true
    done
    case $name in relay-*) note_of "$name" drops "$(relay_drops)" ;; esac
    relay_down
}

# A small packet's way through: nothing else, and beside 80 % of what was forwarded just now.
latency_of() {
    local name=$1 up=serve_plain udp=() said mbit pid
    if [[ $name == relay-wss ]]; then up=serve_tls; fi
    if [[ $name == relay-udp ]]; then udp=(--udp); fi
    $up || return 0
    if said=$(load echo "$TICKET" "${udp[@]}" --seconds "$BENCH_SECONDS"); then
        note_of "$name" idle_p50_us "$(jq .p50_us <<<"$said")"
        note_of "$name" idle_p99_us "$(jq .p99_us <<<"$said")"
    fi
    mbit=$(jq -s --arg name "$name" 'map(select(.contender == $name and .metric == "gbit_40").value) | sort | .[length / 2 | floor] // 0 | . * 800 | floor' "$RESULTS")
    if [[ $mbit -gt 0 ]]; then
        load pump "$TICKET" "${udp[@]}" --packets 40 --seconds $((BENCH_SECONDS + 2)) --rate "$mbit" >"$LAB_OUT/paced.json" &
        pid=$!
        sleep 1 # the load has begun, which is a length of time
        said=$(load echo "$TICKET" "${udp[@]}" --seconds "$BENCH_SECONDS") || said=''
        if wait "$pid" && [[ -n $said ]]; then
            note_of "$name" load_gbit "$(jq '.mbit_s / 1000' "$LAB_OUT/paced.json")"
            note_of "$name" load_p50_us "$(jq .p50_us <<<"$said")"
            note_of "$name" load_p99_us "$(jq .p99_us <<<"$said")"
        fi
    fi
    relay_down
}

# Clients that come, shake hands post-quantum, register and are introduced.
joins_of() {
    local before after said
    serve_plain || return 0
    before=$(relay_ms)
    if said=$(load join "$TICKET" --seconds "$BENCH_SECONDS"); then
        after=$(relay_ms)
        note_of joins per_second "$(jq .per_second <<<"$said")"
        note_of joins per_relay_second "$(jq -n "$(jq .clients <<<"$said") * 1000 / ([$after - $before, 1] | max)")"
        note_of joins matched_p50_us "$(jq .matched_p50_us <<<"$said")"
        note_of joins matched_p99_us "$(jq .matched_p99_us <<<"$said")"
    fi
    relay_down
}

# Clients that do nothing, by TLS: what the relay has and takes for them; and how long an introduction takes beside them.
crowds() {
    local count empty said before
    for count in $BENCH_CROWDS; do
        serve_tls || return 0
        empty=$(side_resident relay)
        rm -f "$LAB_OUT/crowd.out"
        # It stays until its standard input ends, which is a pipe that this script holds.
        mkfifo "$LAB_DIR/stay-$count"
        exec 7<>"$LAB_DIR/stay-$count"
        on relay timeout 600 "$LOAD" crowd "$TICKET" "$count" <"$LAB_DIR/stay-$count" >"$LAB_OUT/crowd.out" 2>>"$LAB_OUT/load.log" 7>&- &
        local crowd=$!
        if soon 300 grep -q joined_ms "$LAB_OUT/crowd.out"; then
            sleep "$BENCH_REST" # they are idle for so long, and the relay gives memory back
            note_of "crowd-$count" kib_per_client "$(jq -n "($(side_resident relay) - $empty) / $count")"
            before=$(relay_ms)
            sleep "$BENCH_REST"
            note_of "crowd-$count" cpu_pct "$(jq -n "($(relay_ms) - $before) / $BENCH_REST / 10")"
            if said=$(load join "$TICKET" --seconds "$BENCH_SECONDS" --together 1); then
                note_of "crowd-$count" matched_p50_us "$(jq .matched_p50_us <<<"$said")"
                note_of "crowd-$count" matched_p99_us "$(jq .matched_p99_us <<<"$said")"
            fi
        else
            step "no $count clients came"
        fi
        kill "$crowd" 2>/dev/null || true
        wait "$crowd" 2>/dev/null || true
        exec 7>&-
        relay_down
    done
}

# Many pairs with a little each.
pairs() {
    local before after said
    serve_plain || return 0
    if said=$(
        before=$(relay_ms)
        load pairs "$TICKET" "$BENCH_PAIRS" --kbit 1000 --seconds $((2 * BENCH_SECONDS)) && echo "$(($(relay_ms) - before))"
    ); then
        after=$(tail -1 <<<"$said") said=$(head -1 <<<"$said")
        note_of pairs mbit "$(jq .mbit_s <<<"$said")"
        note_of pairs lost "$(jq '.sent - .received' <<<"$said")"
        note_of pairs cpu_pct "$(jq -n "$after / (2 * $BENCH_SECONDS) / 10")"
        note_of pairs kib_per_pair "$(jq -n "$(side_resident relay) / $BENCH_PAIRS")"
    fi
    relay_down
}

relay_run() {
    local name order
    # As many as it may have: 10,000 clients need that many, and the relay as many again in a process of its own.
    ulimit -n "$(ulimit -Hn)"
    lab_namespace relay
    on relay sysctl -qw net.ipv4.ip_local_port_range='2000 65000' net.ipv4.tcp_tw_reuse=1
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=relay.invalid -days 30 -keyout "$LAB_DIR/relay/run/key.pem" -out "$LAB_DIR/relay/run/cert.pem" 2>/dev/null
    order=(relay-ws relay-wss relay-udp)
    if [[ -x $IROH ]]; then order+=(iroh iroh-tls); else step "iroh-relay is left out: it could not be built"; fi
    if on relay sh -c 'command -v turnserver' >/dev/null; then order+=(coturn); else step "coturn is left out: it is not there"; fi
    for ((ROUND = 1; ROUND <= BENCH_ROUNDS; ROUND++)); do
        for name in "${order[@]}"; do
            step "round $ROUND of $BENCH_ROUNDS: $name"
            throughput_of "$name"
        done
        for name in relay-ws relay-wss relay-udp; do latency_of "$name"; done
        joins_of
    done
    ROUND=1
    pairs
    crowds
    relay_report
}

relay_report() {
    local part batches versions
    batches=$(jq -nc --arg all "$BENCH_BATCHES" '$all | split(" ") | map(tonumber)')
    versions=$(jq -nc --arg iroh "$IROH_VERSION" --arg coturn "$(dpkg-query -W -f '${Version}' coturn 2>/dev/null || true)" '{"iroh-relay": $iroh, coturn: $coturn}')
    # shellcheck disable=SC2153 # of prelude.sh
    jq -n -L tests/bench --slurpfile results "$RESULTS" --argjson batches "$batches" --argjson versions "$versions" --arg most "${BENCH_CROWDS##* }" \
        --arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" --argjson cores "$(nproc)" --arg kernel "$(uname -r)" \
        --arg commit "$(git -c safe.directory="$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown)" --arg date "$(date -u +%F)" \
        --argjson rounds "$BENCH_ROUNDS" --argjson seconds "$BENCH_SECONDS" -f tests/bench/relay.jq >"$LAB_OUT/relay.json"
    for part in forwarded latency joins clients asked; do
        jq -r -L tests/bench --arg part "$part" --argjson batches "$batches" -f tests/bench/relay-tables.jq "$LAB_OUT/relay.json" | column -t -s $'\t' | sed '$s/$/\n/'
    done >"$LAB_OUT/relay.txt"
    cat "$LAB_OUT/relay.txt"
    cat "$LAB_OUT/relay.json" >&4
    say "table: $LAB_OUT/relay.txt   JSON: $LAB_OUT/relay.json"
}
