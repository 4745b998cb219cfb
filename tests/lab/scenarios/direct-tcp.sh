# shellcheck shell=bash
# Where UDP is blocked, at one side and at both, the data goes directly by TCP: two NATs that let nobody in are opened by SYNs that
# cross. A connection that falls silent is left for the relay, and tries that fail leave no descriptor behind.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_nat b udp-blocked
# SYNs cross on the way from one router to the other.
for host in a b; do lab_wire "$host" delay=5ms; done
# No SYN passes until frames do.
lab_block_tcp a
lab_network
seconds=$(quick 5 10)
descriptors() { on "$1" sh -c "ls /proc/${LAB_PID[$1]}/fd | wc -l"; }
goes_by_tcp() { # NAME LAST-BYTE-OF-ADDRESS
    lab_oracle "$1" a b --seconds "$seconds" --max-gap-ms 90 &
    local oracle=$! began host
    lab_frames_pass a 500
    for host in a b; do lab_expect "$host is on the relay, under frames" lab_path "$host" relay-ws; done
    lab_allow_tcp a
    began=$(lab_now_ms)
    # A new address is a changed network: tried at once.
    ip -n "$LAB-a" address add "192.168.11.$2/32" dev eth0
    for host in a b; do lab_wait 9 "$host to be on direct-tcp" lab_path "$host" direct-tcp; done
    lab_measure "$1: TCP passes to direct-tcp" "$(($(lab_now_ms) - began))" ms
    kill -0 "$oracle" 2>/dev/null || lab_fail "on direct-tcp only when the frames were over"
    wait "$oracle" || lab_fail "the move was felt"
    for host in a b; do
        [[ $(lab_switches "$host") == 1 ]] || lab_fail "$host moved $(lab_switches "$host") times"
        # A silence that is known says that there was a flow when data moved.
        lab_expect "$host moved under frames" lab_status "$host" \
            '.peers[0].last_switch | (.from == "relay-ws" and .to == "direct-tcp" and .lost == 0 and .reordered == 0 and (.gap_ms | type) == "number") or error(tostring)'
    done
    lab_relay_rests "$1-direct" a b "$(quick 2 3)"
}
goes_by_tcp "one side" 75
stop a
stop b
lab_nat a udp-blocked
lab_block_tcp a
lab_up a
lab_up b
lab_all_connected 20
goes_by_tcp "both sides" 76

# Beside it there is the connection, and nothing of its try.
declare -A before=()
for host in a b; do before[$host]=$(($(descriptors "$host") - 1)); done
# cut NAME [VERDICT] — the connection falls silent; SYNs are dropped, or meet VERDICT.
cut() {
    local oracle host
    declare -A moved=([a]=$(lab_switches a) [b]=$(lab_switches b))
    lab_oracle "$1" a b --seconds 6 --max-gap-ms 3000 &
    oracle=$!
    lab_frames_pass a 500
    lab_block_tcp a "${2:-}"
    for host in a b; do lab_wait 3 "$host to be on the relay" lab_path "$host" relay-ws; done
    wait "$oracle" || lab_fail "frames were lost with the connection"
    lab_measure "longest silence, TCP swallowed, $1" "$(lab_longest_gap "$1")" ms
    for host in a b; do lab_moved "$host" 1 "${moved[$host]}"; done
}
cut dropped

# It is tried again, in vain: no SYN is answered. lab_syns_dropped counts from the block on.
no_more() { [[ $(descriptors "$1") -eq ${before[$1]} ]]; }
none_left() { # HOW — SYNs were met so, and left nothing
    lab_wait 90 "SYNs to be $1" lab_syns_dropped a 2
    for host in a b; do
        lab_wait 20 "$host to have no more descriptors than without a connection" no_more "$host"
        lab_measure "descriptors of $host, and after tries that were $1" "${before[$host]}" files
    done
}
none_left dropped
lab_allow_tcp a
# A new address is a changed network: tried at once.
ip -n "$LAB-a" address add 192.168.11.77/32 dev eth0
for host in a b; do lab_wait 20 "$host to be on direct-tcp again" lab_path "$host" direct-tcp; done
lab_oracle again a b --seconds "$(quick 2 3)"

if [[ -n ${LAB_QUICK:-} ]]; then exit 0; fi
# Every SYN is refused.
cut refused "reject with tcp reset"
none_left refused
