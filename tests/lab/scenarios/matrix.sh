# shellcheck shell=bash
# Every pair of routers: which path two fresh daemons end on, how soon, and what was lost; compared with tests/lab/matrix.tsv.
# LAB_REPEAT=20 tries each cell so often, LAB_CELLS='open/.*|same-lan/.*' only these. A cell that fails does not end it.
. "$(dirname "$0")/../lib.sh"

# What each cell must be is decided there, with the reason. Columns: a, b, path kind, tries, reason.
EXPECTED="$(dirname "$0")/../matrix.tsv"
TABLE="$LAB_OUT/table.txt"
TRIES="$LAB_OUT/tries.jsonl"
: >"$TRIES"

lab_topology relay_two_nat
lab_internet6
# 20 ms from one to the other, and 10 to the relay: packets that must cross do.
for host in a b; do lab_wire "$host" delay=10ms; done
lab_relay --listen '[::]:8443' --listen '[::]:443'
lab_up a --relay "$RELAY_TICKET"
lab_invite a
lab_up b "$INVITE"
lab_all_connected 20
stop a
stop b

# How many moves it takes to where it must end from the relay's stream, where a pair begins unless something else was proven before that.
moves_to() { if [[ $1 == relay-ws ]]; then echo 0; else echo 1; fi; }
# judge KIND BEGAN — whether two daemons that began then do what they must, from the first frame that passes on. Says so on descriptor 4.
judge() {
    local kind=$1 began=$2 usable direct=null host oracle seconds
    seconds=$(quick 3 4)
    # It is there before the devices are, so every move is under its frames.
    lab_oracle cell a b --from-first 15 --seconds "$seconds" &
    oracle=$!
    for host in a b; do lab_wait 15 "the daemon of $host to answer" lab_answers "$host"; done
    for host in a b; do lab_wait 10 "$host to be connected" lab_connected "$host" 1; done
    lab_stream beside a b "$seconds" "$((LAB_BESIDE * 125000))"
    for host in a b; do lab_wait 6 "$host to be on $kind" lab_path "$host" "$kind"; done
    if [[ $kind == direct-* ]]; then direct=$(($(lab_now_ms) - began)); fi
    kill -0 "$oracle" 2>/dev/null || lab_fail "on $kind only when the frames were over"
    wait "$oracle" || lab_fail "frames were lost: $(cat "$LAB_OUT/cell.oracle")"
    lab_streamed beside
    for host in a b; do
        lab_path "$host" "$kind" >/dev/null || lab_fail "$host does not stay on $kind"
        [[ $(lab_status "$host" '.peers[0].lost') == 0 ]] || lab_fail "$host counts frames that were lost"
        [[ $(lab_switches "$host") -le "$(moves_to "$kind")" ]] || lab_fail "$host moved $(lab_switches "$host") times: $(grep -o 'via .*' "$LAB_OUT/$host.log" | tr '\n' ' ')"
    done
    # When frames had passed both ways. A second is promised, at full length by machines that do nothing else.
    usable=$(jq --argjson began "$began" '.started_unix_ms + ([.a_to_b, .b_to_a | .first_ms] | max) - $began | ceil' "$LAB_OUT/cell.json")
    [[ $usable -le $(quick 3000 1000) ]] || lab_fail "usable only after $usable ms"
    jq -n --argjson usable_ms "$usable" --argjson direct_ms "$direct" '$ARGS.named' >&4
}

# try A B KIND N — the daemons start behind whatever routers there are now, and are judged. What is left of a failure: a directory of its own.
try() {
    local a=$1 b=$2 kind=$3 n=$4 at="$LAB_OUT/$1-$2-$4" began pid why='' host result
    for host in a b; do : >"$LAB_OUT/$host.log"; done
    rm -f "$LAB_OUT"/cell.*
    began=$(lab_now_ms)
    for host in a b; do start "$host" "$host" shadowmesh up; done
    judge "$kind" "$began" >"$LAB_OUT/cell.txt" 2>&1 3>"$LAB_OUT/cell.why" 4>"$LAB_OUT/cell.result" &
    pid=$!
    if wait "$pid"; then
        result=$(cat "$LAB_OUT/cell.result")
    else
        why="$(sed -n '1s/^ *[0-9.]*  FAILED: //p' "$LAB_OUT/cell.why"), on $(lab_status a '.peers[0].path.kind' 2>/dev/null || echo nothing)"
        result='{}'
        lab_keep_evidence
    fi
    for host in a b; do stop "$host"; done
    if [[ -n $why ]]; then
        mkdir -p "$at"
        cp "$LAB_OUT"/*.log "$LAB_OUT"/*.state "$LAB_OUT"/cell.* "$at"
        lab_no_capture
        cp "$LAB_OUT"/*.pcap* "$at"
        lab_capture_anew
        step "cell $a / $b, try $n: FAILED: $why"
    fi
    jq -n --arg a "$a" --arg b "$b" --arg expected "$kind" --arg why "$why" --argjson result "$result" --argjson lost "$(missed)" \
        '{a: $a, b: $b, expected: $expected, ok: ($why == ""), why: $why, lost: $lost} + $result' -c >>"$TRIES"
}
missed() { jq '[.a_to_b, .b_to_a] | map(.lost) | add' "$LAB_OUT/cell.json" 2>/dev/null || echo null; }

# lay A B — the routers, checked as they are laid. What stands already is left.
at_a='' at_b=''
lay() {
    local a=$1 b=$2 host
    # What the last one left that others do not expect.
    case "$was" in
    "$a") ;;
    ipv6-only | dual-*)
        for host in a b; do lab_no6 "$host"; done
        at_a='' at_b=''
        ;;
    one-nat | same-lan)
        lab_own_router b
        at_a='' at_b=''
        ;;
    overlapping) at_b='' ;;
    esac
    LAB_LAN=()
    case "$a" in
    overlapping)
        # The same addresses on both LANs, and the same host on them.
        LAB_LAN[b]=${LAB_NUMBER[a]}
        lab_nat a "$b" && lab_nat b "$b"
        at_a=$b at_b=''
        ;;
    ipv6-only)
        if [[ $b != ipv6-only && $was == ipv6-only ]]; then lab_no6 b; fi
        lab_only6 a
        if [[ $b == ipv6-only ]]; then lab_only6 b; else lab_nat b "$b"; fi
        at_a='' at_b=''
        ;;
    dual-*)
        # By IPv4 as the second word says, or the second word is the other's.
        if [[ $was == "$a" ]]; then lab_no6 b; fi
        lab_nat a "${a#dual-}"
        lab_add6 a
        case "$b" in
        ipv6-only) lab_only6 b ;;
        dual-*)
            lab_nat b "${b#dual-}"
            lab_add6 b
            ;;
        *) lab_nat b "$b" ;;
        esac
        at_a='' at_b=''
        ;;
    one-nat)
        if [[ $was == one-nat ]]; then lab_own_router b; fi
        if [[ $b == hairpin ]]; then lab_one_nat a b hairpin; else lab_one_nat a b none; fi
        at_a='' at_b=''
        ;;
    same-lan)
        if [[ $was == same-lan ]]; then lab_own_router b; fi
        lab_nat a "$b"
        lab_same_lan a b
        at_a='' at_b=''
        ;;
    carrier)
        if [[ $was != carrier ]]; then
            lab_nat a port-restricted
            lab_carrier a
        fi
        if [[ $at_b == ipv6-only ]]; then lab_no6 b; fi
        if [[ $b == carrier ]]; then
            lab_nat b port-restricted
            lab_carrier b
        elif [[ $b == ipv6-only ]]; then
            lab_only6 b
        elif [[ $at_b != "$b" ]]; then
            lab_nat b "$b"
        fi
        at_b=$b
        ;;
    *)
        if [[ $at_a != "$a" ]]; then lab_nat a "$a"; fi
        if [[ $at_b != "$b" ]]; then lab_nat b "$b"; fi
        at_a=$a at_b=$b
        ;;
    esac
    was=$a
    # Devices are others now, and what was captured before says nothing of this cell.
    lab_capture_anew
}

was=''
while IFS=$'\t' read -r -u 9 a b kind tries reason; do
    [[ -n $a && $a != \#* ]] || continue
    # A few of each class where time is short.
    if [[ -n ${LAB_QUICK:-} ]]; then
        [[ $reason == *quick* ]] || continue
        tries=1
    fi
    if [[ -n ${LAB_CELLS:-} && ! $a/$b =~ ^(${LAB_CELLS})$ ]]; then continue; fi
    lay "$a" "$b"
    for ((n = 1; n <= ${LAB_REPEAT:-$tries}; n++)); do try "$a" "$b" "$kind" "$n"; done
    step "cell $a / $b: $(jq -rs --arg a "$a" --arg b "$b" 'map(select(.a == $a and .b == $b)) |
        "\(map(select(.ok)) | length) of \(length) on \(.[0].expected), usable after \(map(.usable_ms | numbers) | max) ms, direct after \(map(.direct_ms | numbers) | max) ms"' "$TRIES")"
done 9<"$EXPECTED"

[[ -s $TRIES ]] || lab_fail "no cell of tests/lab/matrix.tsv is called ${LAB_CELLS:-so}"
# One object a cell: how many tries there were and how many were good; times are the slowest of them.
jq -s --rawfile expected "$EXPECTED" '
    ($expected | split("\n") | map(split("\t") | select(length == 5) | {key: "\(.[0])/\(.[1])", value: .[4]}) | from_entries) as $reasons |
    group_by([.a, .b]) | map({a: .[0].a, b: .[0].b, kind: .[0].expected, tries: length, good: (map(select(.ok)) | length),
        usable_ms: (map(.usable_ms | numbers) | max), direct_ms: (map(.direct_ms | numbers) | max), lost: (map(.lost | numbers) | add),
        failures: map(.why | select(. != "")), reason: $reasons["\(.[0].a)/\(.[0].b)"]})' "$TRIES" >"$LAB_OUT/matrix.json"
# The grid: a down, b across, both ways round; how many tries were good where not all were.
{
    jq -r --rawfile expected "$EXPECTED" 'def short: {"direct-udp": "udp", "direct-tcp": "tcp", "relay-udp": "relay", "relay-ws": "stream"}[.];
        def cell: if .good == .tries then (.kind | short) + (if .direct_ms then " \(.direct_ms)" else "" end) + (if .tries > 1 then " ×\(.tries)" else "" end)
            else "FAILED \(.good)/\(.tries)" end;
        (map({key: "\(.a)/\(.b)", value: .}) | from_entries) as $at |
        ($expected | split("\n") | map(split("\t") | select(length == 5))) as $lines |
        def in_order: reduce .[] as $name ([]; if index([$name]) then . else . + [$name] end);
        ($lines | map(.[0]) | in_order) as $down | ($lines | map(.[1]) | in_order) as $across |
        (["", $across[]]), ($down[] as $a | [$a, ($across[] as $b | ($at["\($a)/\($b)"] // $at["\($b)/\($a)"]) | if . then cell else "·" end)]) | @tsv' \
        "$LAB_OUT/matrix.json" | column -t -s $'\t'
    echo
    echo "udp and tcp: direct, by that, so many ms after the start at the latest; relay: by its datagrams; stream: by its stream; ·: not tried"
    echo
    jq -r '["A", "B", "PATH", "GOOD", "USABLE", "DIRECT", "LOST", "WHY"], (.[] | [.a, .b, .kind, "\(.good) of \(.tries)", "\(.usable_ms) ms",
        (if .direct_ms then "\(.direct_ms) ms" else "-" end), .lost, .reason]) | @tsv' "$LAB_OUT/matrix.json" | column -t -s $'\t'
} >"$TABLE"
jq '.usable_ms | numbers' "$TRIES" | while read -r took; do lab_measure "start to usable" "$took" ms 1000 >/dev/null; done
jq '.direct_ms | numbers' "$TRIES" | while read -r took; do lab_measure "start to direct" "$took" ms >/dev/null; done
lab_measure "cells" "$(jq length "$LAB_OUT/matrix.json")" cells
lab_measure "tries" "$(jq 'map(.tries) | add' "$LAB_OUT/matrix.json")" times
lab_measure "direct" "$(jq '[.[] | select(.direct_ms)] | length' "$LAB_OUT/matrix.json")" cells
lab_measure "slowest start to usable" "$(jq 'map(.usable_ms | numbers) | max' "$LAB_OUT/matrix.json")" ms
lab_measure "slowest start to direct" "$(jq '[.[].direct_ms | numbers] | max' "$LAB_OUT/matrix.json")" ms
bad=$(jq -r '.[] | select(.good < .tries) | "\(.a) / \(.b): \(.good) of \(.tries): \(.failures | unique | join("; "))"' "$LAB_OUT/matrix.json")
[[ -z $bad ]] || lab_fail "not as tests/lab/matrix.tsv says:"$'\n'"$bad"
