# shellcheck shell=bash
# Judging: frames counted, TCP beside them, silences against their targets. A part of lib.sh.

# lab_oracle NAME A B [OPTION…] — runs the frame oracle between the tunnels of two hosts; zero of every fault unless the
# options allow more. Its report is NAME.json of the artifacts. Beside it, from before its first frame until after its last, bytes go from A to B by
# one TCP connection (lab_stream), LAB_BESIDE Mbit/s; a scenario that sets that to nothing says why. With --from-first SECONDS it waits for devices and
# for the first frame each way, and whoever runs it starts the connection, once there are addresses.
LAB_BESIDE=${LAB_BESIDE-2}
lab_oracle() {
    local name=$1 a=$2 b=$3 seconds=10 option
    shift 3
    local ends=(--a "$LAB-$a:${LAB_DEVICE:-smesh0}" --b "$LAB-$b:${LAB_DEVICE:-smesh0}") options=("$@")
    for option in "${!options[@]}"; do
        if [[ ${options[$option]} == --seconds ]]; then seconds=${options[$((option + 1))]%.*}; fi
        if [[ ${options[$option]} == --from-first ]]; then local LAB_BESIDE=''; fi
    done
    if [[ -n $LAB_BESIDE ]]; then lab_stream "beside-$name" "$a" "$b" "$seconds.2" "$((LAB_BESIDE * 125000))"; fi
    if "$LAB_TOOLS/oracle" run "${ends[@]}" "${options[@]}" >"$LAB_OUT/$name.json" 2>"$LAB_OUT/$name.oracle"; then
        step "oracle $name: $(lab_oracle_line "$name")"
    else
        lab_fail "oracle $name: $(cat "$LAB_OUT/$name.oracle")"
    fi
    if [[ -n $LAB_BESIDE ]]; then lab_streamed "beside-$name"; fi
}
lab_oracle_line() {
    jq -r '[.a_to_b, .b_to_a] | "sent \(map(.sent) | add), lost \(map(.lost) | add), duplicated \(map(.duplicated) | add), reordered \(map(.reordered) | add), corrupted \(map(.corrupted) | add), longest gap \(map(.longest_gap_ms) | max) ms, delay p50 \(map(.delay_ms.p50) | max) ms"' "$LAB_OUT/$1.json"
}

# lab_stream NAME A B SECONDS RATE — from now on RATE bytes a second go from A to B through the tunnel for so long, by one TCP connection.
# lab_streamed NAME — waits for its end: every byte must come, with one SHA-256 at both ends. So what is proved of frames is seen by TCP.
lab_stream() {
    local out="$LAB_OUT/$1.stream"
    "$LAB_TOOLS/stream" --from "$LAB-$2" --to "$LAB-$3" --address "$(lab_address "$3")" --seconds "$4" --rate "$5" >"$out" 2>"$LAB_OUT/$1.log" 3>&- &
    LAB_PID[$1]=$!
    lab_wait 15 "the connection $1 ($LAB_OUT/$1.log)" grep -q connected "$out"
}
lab_streamed() {
    wait "${LAB_PID[$1]}" || lab_fail "the connection $1: $(tail -n 1 "$LAB_OUT/$1.stream" "$LAB_OUT/$1.log")"
    unset "LAB_PID[$1]"
    step "$1: $(tail -n 1 "$LAB_OUT/$1.stream" | jq -r '"\(.received) bytes by one TCP connection, SHA-256 equal, longest silence \(.longest_silence_ms) ms"')"
}

# lab_recovers NAME A B TARGET_MS — measures from now until frames pass both ways.
lab_recovers() {
    local name=$1 a=$2 b=$3 target=$4 took
    took=$("$LAB_TOOLS/oracle" recover --rate 200 --deadline 60 --a "$LAB-$a:${LAB_DEVICE:-smesh0}" --b "$LAB-$b:${LAB_DEVICE:-smesh0}" |
        jq -r '.both_ms // "never"')
    [[ $took != never ]] || lab_fail "$name: no frames both ways within 60 s"
    lab_took "$name" "$took" "$target"
}

# lab_expect WHAT COMMAND… — fails with WHAT unless the command succeeds.
lab_expect() {
    local what=$1
    shift
    "$@" >"$LAB_OUT/last-command.txt" 2>&1 || lab_fail "$what: $(tail -3 "$LAB_OUT/last-command.txt")"
    step "ok: $what"
}

# lab_longest_gap NAME — the longest silence of an oracle's run, ms.
lab_longest_gap() { jq '[.a_to_b, .b_to_a] | map(.longest_gap_ms) | max' "$LAB_OUT/$1.json"; }
# lab_back WHAT NAME SINCE TARGET_MS — how long after SINCE (of lab_now_ms) the longest silence of an oracle's run was over, both ways, and any
# other of half a second: frames that pass for a moment are not back.
lab_back() {
    local took
    took=$(jq --argjson since "$3" '.started_unix_ms as $start | [.a_to_b, .b_to_a] |
        map(.gaps | [max_by(.ms) // empty, (.[] | select(.ms >= 500))] | map(.at_ms + .ms) | max // 0) | [$start + max - $since, 0] | max | floor' "$LAB_OUT/$2.json")
    lab_took "$1" "$took" "$4"
}
# lab_silence WHAT NAME TARGET_MS — the longest silence of an oracle's run, against a target.
lab_silence() { lab_took "$1" "$(lab_longest_gap "$2")" "$3"; }
# lab_freezes SECONDS — the daemon of b stands still for so long while a and b send, with room for all of it in the ring of a: frames of 500
# bytes on average. What is missing is to the frame what the frozen daemon's device could not take, and neither end says that it lost any. No transfer
# beside, and no kernel: what the device drops of those would be counted as well.
lab_freezes() {
    local seconds=$1 oracle awake dropped host LAB_BESIDE=''
    lab_only_oracle a b
    dropped=$(lab_device_dropped b)
    declare -A lost_before=([a]=$(lab_status a '.peers[0].lost') [b]=$(lab_status b '.peers[0].lost'))
    lab_oracle frozen a b --max-frame 900 --max-reordered 1000000 --seconds "$((seconds + $(quick 5 8)))" --max-gap-ms "$((seconds * 1000 + 6000))" --max-lost 1000000 &
    oracle=$!
    lab_frames_pass a 500
    kill -STOP "${LAB_PID[b]}"
    lab_hold "$seconds" "b stands still"
    lab_expect "a does not call b connected" lab_status a '[.peers[] | select(.state == "connected")] == [] or error'
    kill -CONT "${LAB_PID[b]}"
    awake=$(lab_now_ms)
    wait "$oracle" || lab_fail "frames came twice or damaged"
    lab_back "awake to frames" frozen "$awake" 2000
    lab_expect "what was sent to b arrived" jq -e '.a_to_b.lost == 0' "$LAB_OUT/frozen.json"
    dropped=$(($(lab_device_dropped b) - dropped))
    lab_measure "frames that b's device could not take" "$dropped" frames
    [[ $(lab_lost frozen b_to_a) -eq $dropped ]] || lab_fail "$(lab_lost frozen b_to_a) frames of b are missing, its device dropped $dropped"
    [[ $dropped -gt 0 ]] || lab_fail "the device of b held all that was sent: it stood still for too short"
    for host in a b; do lab_expect "$host counts none lost" lab_status "$host" ".peers[0].lost == ${lost_before[$host]} or error"; done
}
# lab_counts_alike HOST MISSING COUNTED [OWN] — what the oracle misses of HOST is what HOST says it lost. lab_only_oracle HOST… — for that, before:
# nothing but the oracle's frames is on their devices; the kernel would speak there as well (MLD, router solicitations), and be lost like others. OWN: as
# many of the switch's own may be among them, which looks for loops each ten seconds.
lab_counts_alike() { [[ $3 -ge $2 && $3 -le $(($2 + ${4:-0})) ]] || lab_fail "$1 counts $3 lost, the oracle $2"; }
lab_only_oracle() {
    local host
    for host in "$@"; do on "$host" sh -c "echo 1 >/proc/sys/net/ipv6/conf/$(lab_device "$host")/disable_ipv6"; done
}
# lab_device_dropped HOST — frames that its device dropped, since nobody read them.
lab_device_dropped() { on "$1" cat "/sys/class/net/$(lab_device "$1")/statistics/tx_dropped"; }
# lab_relay_rests NAME A B SECONDS — frames between the two, of which the relay forwards nothing. (A doubt of a busy machine asks the relay's path,
# which is some packets of 1280 bytes: then it is looked once more, and they are no data.)
lab_relay_rests() {
    local name=$1 n forwarded
    for n in 1 2 3; do
        forwarded=$(lab_forwarded)
        lab_oracle "$name-$n" "$2" "$3" --seconds "$4"
        forwarded=$(($(lab_forwarded) - forwarded))
        lab_measure "bytes that the relay forwarded beside $(($4 * 2000)) frames" "$forwarded" bytes 0
        [[ $forwarded -le 10000 ]] || lab_fail "the relay still forwards"
        [[ $forwarded -gt 0 ]] || return 0
    done
    lab_fail "the relay forwards each time"
}
# lab_costs_alike HOST NAME WAY [MORE] — what HOST says that its last move cost is what an oracle's run, whose one move that was and whose frames were
# all there was (lab_only_oracle), saw come its way: none twice, exactly as many out of order, and the longest silence, give or take 20 ms: the
# one is taken where a packet is opened, the other where a program is woken for its frame, on a machine that is shared. MORE: not the longest, but no longer.
lab_costs_alike() {
    local cost seen
    cost=$(lab_status "$1" '.peers[0].last_switch | {reordered, gap_ms, duplicates, resent, lost}')
    seen=$(jq ".$3 | {reordered, duplicated, longest_gap_ms, lost}" "$LAB_OUT/$2.json")
    step "the last move cost $1: $(jq -c . <<<"$cost"); the oracle saw: $(jq -c . <<<"$seen")"
    jq -en --argjson cost "$cost" --argjson seen "$seen" --arg more "${4:-}" '$seen.duplicated == 0 and $cost.reordered == $seen.reordered and
        ($cost.gap_ms | type) == "number" and $cost.gap_ms <= $seen.longest_gap_ms + 20 and ($more != "" or $cost.gap_ms >= $seen.longest_gap_ms - 20)' >/dev/null ||
        lab_fail "$1 says of its last move $(jq -c . <<<"$cost"), the oracle saw $(jq -c . <<<"$seen")"
}
# lab_lost NAME WAY — frames that an oracle's run missed, WAY a_to_b or b_to_a.
lab_lost() { jq ".$2.lost" "$LAB_OUT/$1.json"; }
