# shellcheck shell=bash
# How many instructions the data path takes for a segment, in memory and without a kernel (tests/perf/src/hot_path.rs), counted by callgrind: the same to
# a thousandth, whatever else the machine does. A part of scripts/bench; the document goes to descriptor 4.

# What a run of so many superframes takes in all.
counted() { # CIPHER outward|both COUNT
    local log
    log=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$LAB_TOOLS/hot_path" "$@" 2>&1) || die "valgrind: ${log##*$'\n'}"
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$log"
}
# What one more superframe takes: what happens at the start is in a long run and in a short one.
each() {
    local long short
    long=$(counted "$1" "$2" 120) && short=$(counted "$1" "$2" 20) || return 1
    echo $(((long - short) / 100))
}

[[ -x $LAB_TOOLS/hot_path ]] || die "$LAB_TOOLS/hot_path is not there: build it, or set LAB_TOOLS"

SEGMENTS=48 # of 1,348 bytes in a superframe
counts='{}'
for cipher in chacha aes; do
    outward=$(each "$cipher" outward)
    both=$(each "$cipher" both)
    counts=$(jq --arg cipher "$cipher" --argjson outward "$outward" --argjson both "$both" --argjson n "$SEGMENTS" \
        '. + {($cipher): {outward: ($outward / $n | round), inward: (($both - $outward) / $n | round)}}' <<<"$counts")
done
# shellcheck disable=SC2153 # of prelude.sh
jq -n --argjson counts "$counts" --arg tool "$(valgrind --version)" \
    --arg commit "$(git -c safe.directory="$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown)" '{instructions_per_segment: $counts, tool: $tool, commit: $commit}' >&4
