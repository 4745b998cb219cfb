# shellcheck shell=bash
# The direct path swallows everything without a word, twice in a row, under 50 Mbit/s of TCP and the oracle's frames: each time the
# session is on the relay within a second, what was swallowed is sent again, and then nothing but probes goes into the hole.
. "$(dirname "$0")/../lib.sh"
# The stream beside is not enough: there is one of 50 Mbit/s.
LAB_BESIDE=''
lab_topology relay_two_nat
# Nothing direct is left when UDP fails.
lab_block_tcp a
lab_wire a ''

# hole NAME — the direct path is one from now on, until the line is mended.
hole() {
    local host oracle way at
    declare -A before=() into=()
    for host in a b; do before[$host]=$(lab_switches "$host"); done
    lab_stream "load-$1" a b 9 6250000
    lab_oracle "$1" a b --seconds 8 --max-gap-ms 3000 &
    oracle=$!
    lab_frames_pass a 500
    lab_wire_change a both only=peer-udp,block
    for host in a b; do lab_wait 3 "$host to be on the relay" lab_path "$host" relay-udp; done
    # Whoever moved last is on the relay for two seconds: then the path is given up or about to be, and what still goes in is counted.
    lab_hold 2 "both are on the relay"
    for way in a_to_b b_to_a; do into[$way]=$(lab_wire_took a "$way"); done
    lab_hold 3 "the hole stays"
    for way in a_to_b b_to_a; do
        at=$(($(lab_wire_took a "$way") - into[$way]))
        lab_measure "packets into the hole, $way, in 3 s" "$at" packets
        # A PING each 250 ms, and a round of checks tries each of the few addresses five times; data would be 3,000 and more.
        [[ $at -le 40 ]] || lab_fail "$at packets went into the hole $way"
    done
    wait "$oracle" || lab_fail "frames were lost with the path"
    lab_streamed "load-$1"
    # The target of the 99th of a hundred is 500 ms.
    lab_silence "silence of a hole" "$1" 1000
    for host in a b; do
        [[ $(lab_switches "$host") == $((before[$host] + 1)) ]] || lab_fail "$host moved $(($(lab_switches "$host") - before[$host])) times"
        lab_expect "$host is on the relay" lab_path "$host" relay-udp
        lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
    done
}

# Twice in a row, and at full length ten times that: each time by daemons that know of no hole, for those wait longer after each.
lab_network
times=$(quick 1 10)
for ((n = 1; n <= times; n++)); do
    lab_direct a b
    lab_relay_known
    hole "hole-$n-1"
    lab_wire_change a both ''
    ip -n "$LAB-a" address add "192.168.11.$((70 + n))/32" dev eth0
    lab_direct a b 20
    hole "hole-$n-2"
    lab_wire_change a both ''
    if [[ $n -lt $times ]]; then lab_again; fi
done

jq -s 'map(.a_to_b, .b_to_a | .longest_gap_ms) | sort' "$LAB_OUT"/hole-*.json >"$LAB_OUT/gaps.json"
spread() { jq "(length * $1 / 100 | ceil) as \$n | .[\$n - 1]" "$LAB_OUT/gaps.json"; }
for share in 50 100; do lab_measure "silence of $(jq length "$LAB_OUT/gaps.json") holes and ways, p$share" "$(spread "$share")" ms; done
if [[ $times -ge 10 ]]; then lab_took "silence of holes, p99" "$(spread 99)" 500; fi
