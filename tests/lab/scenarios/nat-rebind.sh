# shellcheck shell=bash
# A router forgets its mappings every 5 s, on a line of 80 ms: where the peer's router lets the new address in, data follows it without the
# relay, a move or a handshake. Where it does not, the relay has the data until both have told each other where they are now.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
# Nothing direct is left when UDP fails: a move would be seen.
for host in a b; do lab_block_tcp "$host"; done
for host in a b; do lab_wire "$host" delay=20ms; done
rebinds=$(quick 2 12)
rtt=80

remote() { lab_status "$1" '.peers[0].path.remote'; }
moved() {
    local now
    now=$(remote "$1")
    [[ $now == "$2":* && $now != "$3" ]]
}

# same_session BEGAN — the keys of both grew as old as the clock says since remember: no handshake and no rekey began them anew.
declare -A age=() switches=() rekeys=()
remember() {
    local host
    for host in a b; do
        age[$host]=$(lab_status "$host" '.peers[0].handshake.age_s') rekeys[$host]=$(lab_status "$host" '.peers[0].handshake.rekeys')
        switches[$host]=$(lab_switches "$host")
    done
    began=$(lab_now_ms)
}
same_session() {
    local host elapsed
    for host in a b; do
        elapsed=$((($(lab_now_ms) - began) / 1000))
        lab_expect "the session of $host is the same, and so are its keys" lab_status "$host" \
            ".peers[0].handshake | (.age_s >= ${age[$host]} + $elapsed - 1 and .rekeys == ${rekeys[$host]}) or error(\"after $elapsed s: \(.)\")"
        lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
    done
}

lab_nat b open
lab_network
for type in open $(quick "" address-restricted); do
    if [[ $type != open ]]; then
        lab_nat b "$type"
        lab_again
    fi
    lab_direct a b 10
    remember
    # The target is two round trips.
    lab_oracle "$type" a b --seconds "$((rebinds * 5 + 4))" --max-gap-ms "$((3 * 2 * rtt))" &
    oracle=$!
    lab_frames_pass a 500
    for ((n = 1; n <= rebinds; n++)); do
        before=$(remote b)
        lab_rebind a
        lab_wait 4 "b to send to the new address" moved b 198.51.100.11 "$before"
        lab_hold 5 "a has another address"
    done
    wait "$oracle" || lab_fail "a rebind was felt"
    lab_rebound a
    lab_silence "longest silence, peer $type" "$type" "$((2 * rtt))"
    for host in a b; do
        lab_expect "$host is direct" lab_path "$host" direct-udp
        [[ $(lab_switches "$host") == "${switches[$host]}" ]] || lab_fail "$type: $host moved $(($(lab_switches "$host") - switches[$host])) times"
    done
    same_session
done

if [[ -n ${LAB_QUICK:-} ]]; then exit 0; fi
# The other router lets in only what it knows, so nothing passes directly until both have punched anew. The relay's datagrams come from the
# address that was forgotten as well: by the stream, by datagram once that is bound anew, and back. What the path swallowed goes again when
# it is found to have been silent; where it has come to life before that, by a packet of the other side's, what is new is a little ahead. Who is let in again before the
# relay's path has answered need not move at all.
lab_nat b port-restricted
lab_again
lab_direct a b 10
remember
lab_oracle port-restricted a b --seconds "$((rebinds * 6 + 4))" --max-gap-ms 3000 --max-reordered "$((rebinds * 1000))" &
oracle=$!
lab_frames_pass a 500
for ((n = 1; n <= rebinds; n++)); do
    host=a other=b
    if ((n % 2 == 0)); then host=b other=a; fi
    before=$(remote "$other")
    rebound=$(lab_now_ms)
    lab_rebind "$host"
    lab_wait 30 "$other to send to the new address of $host" moved "$other" "198.51.100.1${LAB_NUMBER[$host]}" "$before"
    lab_direct a b 10
    lab_within "peer port-restricted, rebind to direct" "$(($(lab_now_ms) - rebound))" 5000
    sleep "$((6000 - $(lab_now_ms) + rebound))e-3"
done
wait "$oracle" || lab_fail "a rebind cost frames"
lab_silence "longest silence, peer port-restricted" port-restricted 1000
for host in a b; do
    moves=$(($(lab_switches "$host") - switches[$host]))
    [[ $moves -le $((3 * rebinds)) ]] || lab_fail "$host moved $moves times in $rebinds rebinds"
    lab_expect "$host is direct" lab_path "$host" direct-udp
    lab_rebound "$host"
done
same_session
