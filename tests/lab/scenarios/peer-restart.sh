# shellcheck shell=bash
# A peer is killed and starts again, with its key and with a new one, while the two are direct: what is missing was sent while it was
# away, frames pass 2 s after its process began, directly after 10.
. "$(dirname "$0")/../lib.sh"
# No transfer beside: a daemon that is killed takes its device, and with that every connection, along.
LAB_BESIDE=''
lab_topology relay_two_nat
lab_network
lab_direct a b
is_direct() { lab_status "$1" '[.peers[] | select(.path.kind == "direct-udp" and .paths_agree)] != [] or error'; }

# restarts NAME WHAT [ARGUMENT…] — b dies for a second and comes up with these arguments, under frames.
restarts() {
    local name=$1 what=$2 up oracle way
    shift 2
    lab_oracle "$name" a b --seconds 7 --max-lost 100000 --max-gap-ms 7500 &
    oracle=$!
    lab_frames_pass a 500
    stop b KILL
    if [[ $name == new-key ]]; then on b rm -r /var/lib/shadowmesh; fi
    lab_hold 1 "b is dead"
    up=$(lab_now_ms)
    lab_up b "$@"
    for host in a b; do lab_wait 30 "$host to be direct" is_direct "$host"; done
    lab_within "$what: start to direct" "$(($(lab_now_ms) - up))" 10000
    wait "$oracle" || lab_fail "frames came twice, late or damaged, or not at all"
    lab_back "$what: start to frames" "$name" "$up" 2000
    # A thousand frames a second: as many may be missing as the silence has milliseconds.
    for way in a_to_b b_to_a; do
        jq -e ".$way | .lost <= .longest_gap_ms + 2" "$LAB_OUT/$name.json" >/dev/null ||
            lab_fail "more is missing $way than was sent while b was away: $(jq -c ".$way | [.lost, .longest_gap_ms]" "$LAB_OUT/$name.json")"
        lab_measure "$what: missing $way" "$(lab_lost "$name" "$way")" frames
    done
    for host in a b; do lab_expect "$host is direct" is_direct "$host"; done
}
restarts same-key "same key"
invite=$(on a shadowmesh invite --expires 1h 2>/dev/null | grep -om1 'smi1[A-Za-z0-9_-]*')
restarts new-key "new key" "$invite"
