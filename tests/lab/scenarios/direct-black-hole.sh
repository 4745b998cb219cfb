# shellcheck shell=bash
# The direct path swallows everything without a word, twice in a row, under 50 Mbit/s of TCP and the oracle's frames: each time the
# session is on the relay within a second, and what was swallowed is sent again.
. "$(dirname "$0")/../lib.sh"
# No transfer beside: it has a file of its own.
LAB_BESIDE=''
lab_topology relay_two_nat
# Nothing direct is left when UDP fails.
lab_block_tcp a
lab_wire a ''
lab_network
lab_direct a b
lab_serve file a 40000000
for round in 1 2; do
    before=$(lab_switches a)

    lab_oracle "hole-$round" a b --rate 1000 --seconds 6 --max-gap-ms 3000 &
    oracle=$!
    lab_fetch file a b 6250000 &
    fetch=$!
    lab_frames_pass a 500
    lab_wire_change a both only=peer-udp,block
    lab_wait 3 "a to be on the relay" lab_path a relay-udp
    wait "$oracle" || lab_fail "frames were lost with the path"
    wait "$fetch" || lab_fail "the file did not come, or came damaged"
    lab_measure "longest silence, hole $round" "$(lab_longest_gap "hole-$round")" ms
    [[ $(lab_switches a) == $((before + 1)) ]] || lab_fail "a moved $(($(lab_switches a) - before)) times"
    lab_expect "a lost nothing" lab_status a '.peers[0].lost == 0 or error'
    lab_wire_change a both ''
    ip -n "$LAB-a" address add "192.168.11.7$round/32" dev eth0
    lab_direct a b 20
done
