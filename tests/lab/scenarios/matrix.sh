# shellcheck shell=bash
# Every pair of routers: which path two fresh daemons end on, how soon, and what was lost; compared with tests/lab/matrix.tsv.
# LAB_REPEAT=20 tries each cell so often, LAB_CELLS='open/.*|same-lan/.*' only these.
. "$(dirname "$0")/../lib.sh"

# What each cell must be is decided there, with the reason. Columns: a, b, path kind, reason.
EXPECTED="$(dirname "$0")/../matrix.tsv"
TABLE="$LAB_OUT/table.txt"
CELLS="$LAB_OUT/cells.jsonl"
: >"$CELLS"

LAB_NO_CAPTURE=1 lab_topology relay_two_nat
lab_internet6
lab_relay --listen '[::]:8443' --listen '[::]:443'
lab_up a --relay "$RELAY_TICKET"
lab_invite a
lab_up b "$INVITE"
lab_all_connected 20
stop a
stop b

# cell A B KIND REASON — the daemons start behind whatever routers there are now, and are judged.
cell() {
    local a=$1 b=$2 kind=$3 reason=$4 began usable direct=null found lost wait=6
    began=$(lab_now_ms)
    lab_up a
    lab_up b
    lab_wait 10 "$a and $b to be connected" lab_connected a 1
    lab_wait 10 "$a and $b to be connected" lab_connected b 1
    usable=$(($(lab_now_ms) - began))
    lab_oracle "cell-$a-$b" a b --rate 1000 --seconds 3 &
    local oracle=$!
    if [[ $kind == direct-* ]]; then
        lab_wait $wait "$a and $b to be $kind" lab_path a "$kind"
        lab_wait $wait "$b and $a to be $kind" lab_path b "$kind"
        direct=$(($(lab_now_ms) - began))
    else
        lab_wait $wait "$a and $b to be on $kind" lab_path a "$kind"
        lab_wait $wait "$b and $a to be on $kind" lab_path b "$kind"
    fi
    wait "$oracle" || lab_fail "$a and $b: frames were lost"
    found=$(lab_status a '.peers[0].path.kind')
    lost=$(jq '[.a_to_b, .b_to_a] | map(.lost) | add' "$LAB_OUT/cell-$a-$b.json")
    jq -cn --arg a "$a" --arg b "$b" --arg kind "$found" --arg expected "$kind" --arg reason "$reason" \
        --argjson usable_ms "$usable" --argjson direct_ms "$direct" --argjson lost "$lost" '$ARGS.named' >>"$CELLS"
    step "cell $a / $b: $found (usable after $usable ms, direct after $direct ms, lost $lost)"
    [[ $found == "$kind" ]] || lab_fail "$a and $b end on $found, not $kind: $reason"
    # The target is a second.
    [[ $usable -le 3000 ]] || lab_fail "$a and $b: usable only after $usable ms"
    stop a
    stop b
}

at_a='' at_b=''
while IFS=$'\t' read -r a b kind reason; do
    [[ -n $a && $a != \#* ]] || continue
    # A few of each class where time is short.
    if [[ -n ${LAB_QUICK:-} && $reason != *quick* ]]; then continue; fi
    if [[ -n ${LAB_CELLS:-} && ! $a/$b =~ ^(${LAB_CELLS})$ ]]; then continue; fi
    case "$a" in
    overlapping)
        lab_nat a "$b" && lab_nat b "$b"
        # The same addresses on both LANs, and the same host on them.
        lab_lan b 192.168.11.1 192.168.11.2 24
        at_a='' at_b=''
        ;;
    ipv6-only)
        lab_only6 a
        if [[ $b == ipv6-only ]]; then lab_only6 b; else lab_nat b "$b"; fi
        ;;
    one-nat)
        if [[ $b == hairpin ]]; then lab_one_nat a b hairpin; else lab_one_nat a b none; fi
        ;;
    same-lan)
        lab_nat a "$b"
        lab_same_lan a b
        ;;
    carrier)
        lab_nat a port-restricted
        if [[ $at_a != carrier ]]; then lab_carrier a; fi
        lab_nat b "$b"
        at_a=carrier at_b=''
        ;;
    *)
        if [[ $at_a != "$a" ]]; then lab_nat a "$a"; fi
        if [[ $at_b != "$b" ]]; then lab_nat b "$b"; fi
        at_a=$a at_b=$b
        ;;
    esac
    for ((n = 0; n < ${LAB_REPEAT:-1}; n++)); do cell "$a" "$b" "$kind" "$reason"; done
    if [[ $a == one-nat ]]; then
        lab_own_router b
        at_a='' at_b=''
    fi
    if [[ $a == ipv6-only ]]; then
        for host in a b; do lab_no6 "$host"; done
        at_a='' at_b=''
    fi
done <"$EXPECTED"

jq -s . "$CELLS" >"$LAB_OUT/matrix.json"
jq -r '["A", "B", "PATH", "USABLE", "DIRECT", "LOST", "WHY"], (.[] | [.a, .b, .kind, "\(.usable_ms) ms", (if .direct_ms then "\(.direct_ms) ms" else "-" end), .lost, .reason]) | @tsv' \
    "$LAB_OUT/matrix.json" | column -t -s $'\t' >"$TABLE"
lab_measure "cells" "$(jq length "$LAB_OUT/matrix.json")" cells
lab_measure "direct" "$(jq '[.[] | select(.direct_ms)] | length' "$LAB_OUT/matrix.json")" cells
lab_measure "slowest start to usable" "$(jq 'map(.usable_ms) | max' "$LAB_OUT/matrix.json")" ms
lab_measure "slowest start to direct" "$(jq '[.[].direct_ms | numbers] | max' "$LAB_OUT/matrix.json")" ms
