# shellcheck shell=bash
# Rounds of contenders, in one go: scripts/bench without a word. Sourced by it after lib.sh, with the settings of the command line.

# As the caller.
compare_prepare() {
    compare_select
    if [[ -z ${SM_BUILT:-} ]]; then
        scripts/install-deps build test
        build_release
        contenders_install "${SELECTED[@]}"
    fi
}
# BENCH_ONLY, names or patterns with commas between, or all → SELECTED
compare_select() {
    local pattern name known
    SELECTED=()
    if [[ -z $BENCH_ONLY ]]; then
        SELECTED=("${CONTENDERS[@]}")
        return
    fi
    local -A wanted=()
    for pattern in ${BENCH_ONLY//,/ }; do
        known=''
        for name in "${CONTENDERS[@]}"; do
            # shellcheck disable=SC2053 # a pattern on purpose
            if [[ $name == $pattern ]]; then wanted[$name]=1 known=1; fi
        done
        [[ -n $known ]] || die "nothing is called $pattern; scripts/bench --list shows what there is"
    done
    for name in "${CONTENDERS[@]}"; do if [[ -n ${wanted[$name]:-} ]]; then SELECTED+=("$name"); fi; done
}
compare_list() {
    local name lacks
    for name in "${CONTENDERS[@]}"; do
        lacks=$(contender_lacks "$name")
        printf '%-28s layer %s  %-24s %s%s\n' "$name" "${CONTENDER_LAYER[$name]}" "${CONTENDER_CIPHER[$name]}" "${CONTENDER_ABOUT[$name]}" "${lacks:+ [${lacks//$'\n'/; }]}"
    done
}

# As root, after tests/lab/lib.sh and measure.sh. The document goes to descriptor 4.
compare_run() {
    for program in "$SM_BIN/shadowmesh" "$SM_BIN/shadowmesh-relay" "$LAB_TOOLS/bare" "$LAB_TOOLS/flood"; do
        [[ -x $program ]] || die "$program is not there: build it, or set SM_BIN and LAB_TOOLS"
    done
    RESULTS="$LAB_OUT/results.jsonl"
    : >"$RESULTS"
    local name lacks n position
    declare -gA OUT=() # why a contender is left out
    for name in "${SELECTED[@]}"; do
        lacks=$(contender_lacks "$name")
        if [[ -n $lacks ]]; then
            OUT[$name]=${lacks//$'\n'/; }
            step "$name is left out: ${OUT[$name]}"
        fi
    done
    bench_hosts
    # Who ends it early, gets what there is by then.
    trap 'step "cut short: this is what was measured until now"; compare_report; exit 130' INT TERM
    for ((ROUND = 1; ROUND <= BENCH_ROUNDS; ROUND++)); do
        for ((position = 0; position < ${#SELECTED[@]}; position++)); do
            # Each round begins farther on, so that nobody always comes after the same one, or first.
            n=$(((position + (ROUND - 1) * (${#SELECTED[@]} / BENCH_ROUNDS + 1)) % ${#SELECTED[@]}))
            CONTENDER=${SELECTED[n]}
            [[ -z ${OUT[$CONTENDER]:-} ]] || continue
            step "round $ROUND of $BENCH_ROUNDS: $CONTENDER"
            if contender_up "$CONTENDER"; then
                measure_all
                if [[ $CONTENDER == shadowmesh* ]] && ! shadowmesh_stayed "$CONTENDER"; then
                    step "$CONTENDER left its path meanwhile: this round of it is not counted"
                    forget_round
                    note left_path 1
                fi
            else
                OUT[$CONTENDER]="it did not come up in round $ROUND; its words are in $LAB_OUT/failed-$CONTENDER"
                step "$CONTENDER is left out from here: it did not come up"
                mkdir -p "$LAB_OUT/failed-$CONTENDER"
                cp "$LAB_OUT"/{a,b,relay}-*.{out,log} "$LAB_OUT/failed-$CONTENDER/" 2>/dev/null || true
            fi
            contender_down
        done
    done
    trap 'exit 130' INT TERM
    compare_report
}
shadowmesh_stayed() {
    local up
    read -r -a up <<<"${CONTENDER_UP[$1]}"
    shadowmesh_is_on "${up[2]}"
}
# What was measured of the contender that is up, in this round.
forget_round() {
    jq -c --arg contender "$CONTENDER" --argjson round "$ROUND" 'select(.contender != $contender or .round != $round)' "$RESULTS" >"$RESULTS.kept"
    mv "$RESULTS.kept" "$RESULTS"
}

compare_report() {
    local name
    for name in "${SELECTED[@]}"; do
        jq -nc --arg name "$name" --argjson layer "${CONTENDER_LAYER[$name]}" --arg cipher "${CONTENDER_CIPHER[$name]}" --arg about "${CONTENDER_ABOUT[$name]}" \
            --arg version "$(contender_version "$name")" --arg left_out "${OUT[$name]:-}" \
            '{name: $name, layer: $layer, cipher: $cipher, about: $about, version: $version, left_out: (if $left_out == "" then null else $left_out end)}'
    done >"$LAB_OUT/contenders.jsonl"
    jq -n -L tests/bench --slurpfile results "$RESULTS" --slurpfile contenders "$LAB_OUT/contenders.jsonl" \
        --arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" --argjson cores "$(nproc)" --arg kernel "$(uname -r)" \
        --arg commit "$(git -c safe.directory="$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown)" --arg date "$(date -u +%F)" \
        --argjson rounds "$BENCH_ROUNDS" --argjson seconds "$BENCH_SECONDS" -f tests/bench/report.jq >"$LAB_OUT/bench.json"
    local part
    for part in tcp udp rest asked out; do
        jq -r -L tests/bench --arg part "$part" -f tests/bench/tables.jq "$LAB_OUT/bench.json" | column -t -s $'\t' | sed '$s/$/\n/'
    done >"$LAB_OUT/bench.txt"
    cat "$LAB_OUT/bench.txt"
    cat "$LAB_OUT/bench.json" >&4
    say "table: $LAB_OUT/bench.txt   JSON: $LAB_OUT/bench.json"
}
