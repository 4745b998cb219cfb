# shellcheck shell=bash
# What is measured of a contender that is up. Each number becomes a line of $RESULTS: {contender, round, metric, value}. A part of scripts/bench.

TICKS=$(getconf CLK_TCK)

# note METRIC VALUE — `null` or nothing says that it could not be measured.
note() {
    jq -nc --arg contender "$CONTENDER" --argjson round "$ROUND" --arg metric "$1" --argjson value "${2:-null}" \
        '{contender: $contender, round: $round, metric: $metric, value: $value}' >>"$RESULTS"
}

# The processes of a side (a, b, relay): those of the labels that begin with it.
side_processes() {
    local label
    for label in "${!LAB_PID[@]}"; do if [[ $label == "$1"-* && $label != *-iperf ]] && running "$label"; then echo "${LAB_PID[$label]}"; fi; done
}
# CPU time of a side so far, user and system, in ticks of the kernel (proc(5), fields 14 and 15).
side_ticks() {
    local pid sum=0 line fields
    for pid in $(side_processes "$1"); do
        line=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
        # The name may hold spaces; what follows it does not.
        read -r -a fields <<<"${line##*) }"
        sum=$((sum + fields[11] + fields[12]))
    done
    echo "$sum"
}
# Resident memory of a side, in kilobytes.
side_resident() {
    local pid
    for pid in $(side_processes "$1"); do sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null; done | awk '{ sum += $1 } END { print sum + 0 }'
}

# throughput FLOWS ab|ba — TCP for so long, into $LAB_OUT/iperf.json; fails where it broke off.
throughput() {
    local reverse=() && [[ $2 == ab ]] || reverse=(--reverse)
    iperf_server || return 1
    on a timeout $((BENCH_SECONDS + 20)) iperf3 --client "$TUNNEL_B" --time "$BENCH_SECONDS" --parallel "$1" --json "${reverse[@]}" >"$LAB_OUT/iperf.json" 2>/dev/null
    local status=$?
    iperf_ended
    [[ $status -eq 0 ]]
}
iperf_server() {
    start b-iperf b iperf3 --server --one-off --bind "$TUNNEL_B"
    soon 5 on b sh -c "ss -Hltn | grep -q '$TUNNEL_B:5201'"
}
iperf_ended() {
    soon 5 stopped b-iperf || kill -KILL "${LAB_PID[b-iperf]}" 2>/dev/null || true
    unset "LAB_PID[b-iperf]"
}

# measure_tcp FLOWS… — throughput of so many flows, both ways; with one flow also what CPU time each side took for it.
measure_tcp() {
    local flows way side bits bytes
    local -A before
    for flows in "$@"; do
        for way in ab ba; do
            for side in a b relay; do before[$side]=$(side_ticks "$side"); done
            bits=null
            if throughput "$flows" "$way"; then
                bits=$(jq '.end.sum_received.bits_per_second / 1e9' "$LAB_OUT/iperf.json")
                if [[ $flows == 1 ]]; then
                    bytes=$(jq .end.sum_received.bytes "$LAB_OUT/iperf.json")
                    for side in a b relay; do
                        [[ -n $(side_processes "$side") ]] || continue
                        note "cpu_${way}_${side}" "$(jq -n "($(side_ticks "$side") - ${before[$side]}) / $TICKS / ([$bytes, 1] | max) * 1e9")"
                    done
                fi
            fi
            note "tcp_${flows}_$way" "$bits"
        done
    done
}

# Datagrams a second that arrive, from a to b: each handed to the kernel alone, and at last many as one, as QUIC servers do it.
measure_udp() {
    local size
    for size in 64 512 1200; do note "udp_$size" "$(flood --size "$size")"; done
    note udp_1200_segmented "$(flood --size 1200 --segmented)"
}
flood() {
    timeout 60 "$LAB_TOOLS/flood" --from "$LAB-a" --to "$LAB-b" --address "$TUNNEL_B:6000" --step-ms "$BENCH_STEP_MS" --steps "$BENCH_STEPS" "$@" \
        2>>"$LAB_OUT/flood.log" | jq .arrived_per_s
}

# The kernel's own echo at the other end, so that no third program is measured: median and 99th percentile, in milliseconds.
measure_rtt() {
    on a ping -n -c $((BENCH_PINGS / 10 + 1)) -i 0.005 -W 1 "$TUNNEL_B" >/dev/null || true # neighbours are known, cores are awake
    note_pings idle "$(pings "$BENCH_PINGS" 0.005)"
    iperf_server || return 0
    on a timeout $((BENCH_LOADED + 20)) iperf3 --client "$TUNNEL_B" --time $((BENCH_LOADED + 1)) --json >/dev/null 2>&1 &
    local load=$!
    sleep 0.5 # the transfer has left its slow start, which is a length of time
    local loaded
    loaded=$(pings $((BENCH_LOADED * 100)) 0.01)
    # Without a transfer beside them they are of an idle tunnel.
    wait "$load" || loaded=''
    note_pings load "$loaded"
    iperf_ended
}
# One that was lost counts as a second.
pings() {
    on a timeout 60 ping -n -c "$1" -i "$2" -W 1 "$TUNNEL_B" |
        awk '/ time=/ { sub(/.* time=/, ""); print $1 + 0; seen++ } /packets transmitted/ { for (; seen < $1; seen++) print 1000 }' | sort -n
}
note_pings() { # WHEN TIMES
    note "rtt_$1_p50" "$(at_share 0.5 <<<"$2")"
    note "rtt_$1_p99" "$(at_share 0.99 <<<"$2")"
}
at_share() { awk -v share="$1" 'NF { value[++n] = $1 } END { if (n) { at = n * share; if (at > int(at)) at = int(at) + 1; print value[at < 1 ? 1 : at] } else print "null" }'; }

measure_memory() { # WHEN
    local side
    for side in a b relay; do if [[ -n $(side_processes "$side") ]]; then note "rss_$1_$side" "$(side_resident "$side")"; fi; done
}

# All of it, of the contender that is up.
measure_all() {
    measure_memory idle
    if [[ " $BENCH_WHAT " == *" rtt "* ]]; then measure_rtt; fi
    case " $BENCH_WHAT " in
    *" tcp "*) measure_tcp 1 4 50 ;;
    *" tcp1 "*) measure_tcp 1 ;;
    esac
    if [[ " $BENCH_WHAT " == *" udp "* ]]; then measure_udp; fi
    measure_memory loaded
}
