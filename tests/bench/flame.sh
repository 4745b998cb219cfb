# shellcheck shell=bash
# Where the time goes of a contender's two ends under one TCP transfer: a flame graph of each, and shares by stage. As root; a part of scripts/bench.

# flame_run CONTENDER — after bench_hosts; the pictures and shares are in $LAB_OUT.
flame_run() {
    CONTENDER=$1
    bench_hosts
    contender_up "$CONTENDER" || die "$CONTENDER did not come up; its words are in $LAB_OUT"
    local side pids recorders=() bytes before=() after=() n=0
    iperf_server || die "no iperf3 server"
    on a timeout $((BENCH_SECONDS + 20)) iperf3 --client "$TUNNEL_B" --time $((BENCH_SECONDS + 2)) --json >"$LAB_OUT/iperf.json" &
    local load=$!
    lab_hold 1 "the transfer speeds up"
    for side in a b; do
        pids=$(side_processes "$side" | paste -sd,)
        # By DWARF, which the hand-written ciphers have as well; frame pointers they do not keep.
        perf record --quiet --freq 499 --call-graph dwarf,16384 --pid "$pids" --output "$LAB_OUT/perf-$side.data" -- sleep "$BENCH_SECONDS" 2>"$LAB_OUT/perf-$side.log" &
        recorders+=($!)
        before[n++]=$(side_ticks "$side")
    done
    wait "${recorders[@]}" || die "perf: $(tail -1 "$LAB_OUT/perf-a.log")"
    for side in a b; do after+=("$(side_ticks "$side")"); done
    wait "$load" || die "iperf3 failed"
    iperf_ended
    contender_down
    bytes=$(jq .end.sum_received.bits_per_second "$LAB_OUT/iperf.json")
    n=0
    for side in a b; do
        step "side $side"
        perf script --input "$LAB_OUT/perf-$side.data" --fields ip,sym 2>/dev/null |
            tests/bench/flame.py --title "$CONTENDER, $([[ $side == a ]] && echo sending || echo receiving)" --svg "$LAB_OUT/flame-$side.svg" --ticks $((after[n] - before[n])) \
                --ticks-per-second "$TICKS" --bytes "$(jq -n "$bytes / 8 * $BENCH_SECONDS")" | tee "$LAB_OUT/stages-$side.json" >&4
        n=$((n + 1))
    done
    say "pictures: $LAB_OUT/flame-a.svg (sending), $LAB_OUT/flame-b.svg (receiving)"
}
