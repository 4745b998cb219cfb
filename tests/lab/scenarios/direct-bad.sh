# shellcheck shell=bash
# A direct path that loses 5 % keeps the data and loses what the wire loses; at 20 %, or when it gets much slower than the relay, the
# relay takes over, once, unless it loses as much.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_wire a ''
lab_wire relay delay=15ms
lab_network
lab_direct a b
seconds=$(quick 5 30)
# loses NAME OPTION… — an oracle's run, that may miss no more frames each way than the line took packets.
loses() {
    local name=$1 way took lost
    shift
    declare -A before=([a_to_b]=$(lab_wire_took a a_to_b) [b_to_a]=$(lab_wire_took a b_to_a))
    # Who waits for what is lost waits for nothing.
    lab_oracle "$name" a b --max-lost 1000000 --settle-ms 1000 "$@"
    for way in a_to_b b_to_a; do
        took=$(($(lab_wire_took a "$way") - before[$way])) lost=$(lab_lost "$name" "$way")
        lab_measure "$name, $way: packets that the line took, and frames missing" "$took, $lost" ""
        [[ $lost -le $took ]] || lab_fail "$name: $lost frames are missing $way, the line took $took packets"
    done
}

# Only UDP between the two is hurt, so the relay stays clean. No transfer beside where frames are counted against packets: each of those
# is a frame, or small.
beside=$LAB_BESIDE
LAB_BESIDE=''
for loss in $(quick "" "1 5"); do
    lab_wire_change a both "only=peer-udp,loss=$loss%"
    loses "loss-$loss" --seconds "$seconds"
    lab_expect "still direct at $loss %" lab_path a direct-udp
    [[ $(lab_switches a) == 1 && $(lab_switches b) == 1 ]] || lab_fail "it moved at $loss %"
done
LAB_BESIDE=$beside
lab_wire_change a both "only=peer-udp,loss=5%"
loses measured --seconds 5 &
oracle=$!
lab_wait 4 "status to say what is lost" lab_status a '(.peers[0].path.loss_pct > 2 and .peers[0].path.loss_pct < 9) or error'
wait "$oracle" || lab_fail "more was lost than the wire took"
lab_expect "still direct at 5 %" lab_path a direct-udp
[[ $(lab_switches a) == 1 && $(lab_switches b) == 1 ]] || lab_fail "it moved at 5 %"

lab_wire_change a both only=peer-udp,loss=20%
LAB_BESIDE=''
# The packet that ends the old path may be lost with others, and what comes by the new one is not waited for then.
loses demoted --max-reordered 1000 --seconds "$(quick 8 12)" &
oracle=$!
lab_wait 10 "a to be on the relay" lab_path a relay-udp
lab_wait 10 "b to be on the relay" lab_path b relay-udp
wait "$oracle" || lab_fail "more was lost than the wire took until the relay had it"
# The relay is 30 ms farther. Whoever misses the packet that ended the old path waits for what may be under way there as long as the slowest path takes:
# two round trips of the stream, 120 ms, a quarter more or less.
lab_silence "longest silence of a demotion" demoted 180
for host in a b; do
    if [[ $host == a ]]; then way=b_to_a; else way=a_to_b; fi
    lab_costs_alike "$host" demoted "$way" more
done
LAB_BESIDE=$beside
[[ $(lab_switches a) == 2 && $(lab_switches b) == 2 ]] || lab_fail "moves at 20 %: $(lab_switches a), $(lab_switches b)"
lab_oracle clean a b --seconds "$(quick 2 5)"

# A try that failed pauses it for half a minute; then clean for half a minute: back, by itself.
lab_wire_change a both ''
if [[ -n ${LAB_QUICK:-} ]]; then lab_again; fi
for host in a b; do lab_wait 75 "$host to be direct again" lab_path "$host" direct-udp; done

# Where every path is as bad, there is nowhere to go.
if [[ -z ${LAB_QUICK:-} ]]; then
    LAB_BESIDE=''
    declare -A before=([a]=$(lab_switches a) [b]=$(lab_switches b))
    lab_wire_change a both only=transport,loss=20%
    loses all-bad --max-reordered 1000 --seconds "$(quick 6 20)"
    for host in a b; do
        lab_moved "$host" 0 "${before[$host]}"
        lab_expect "$host is direct" lab_path "$host" direct-udp
    done
    LAB_BESIDE=$beside
    lab_wire_change a both ''
fi

declare -A before=([a]=$(lab_switches a) [b]=$(lab_switches b))
lab_wire_change a both only=peer-udp,delay=100ms
lab_oracle slow a b --seconds "$(quick 15 25)" --max-gap-ms 600 &
oracle=$!
lab_wait 25 "a to be on the relay" lab_path a relay-udp
lab_wait 25 "b to be on the relay" lab_path b relay-udp
wait "$oracle" || lab_fail "frames were lost on the way to the relay"
for host in a b; do
    lab_moved "$host" 1 "${before[$host]}"
    lab_expect "$host is on the relay" lab_path "$host" relay-udp
done
