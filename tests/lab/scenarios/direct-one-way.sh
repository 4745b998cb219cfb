# shellcheck shell=bash
# A direct path that begins to work one way only carries nobody's data, whichever way that is: exactly one move, and it stays.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
# Nothing direct is left when UDP fails.
lab_block_tcp a
lab_wire a ''
lab_network
seconds=$(quick 3 300)
for way in a-to-b b-to-a; do
    lab_direct a b
    declare -A before=([a]=$(lab_switches a) [b]=$(lab_switches b))
    lab_oracle "$way" a b --seconds "$((seconds + 5))" --max-gap-ms 3000 &
    oracle=$!
    lab_frames_pass a 500
    lab_wire_change a "$way" only=peer-udp,block
    for host in a b; do lab_wait 3 "$host to be on the relay" lab_path "$host" relay-udp; done
    lab_hold "$seconds" "nothing passes $way directly"
    wait "$oracle" || lab_fail "frames were lost"
    lab_silence "longest silence" "$way" 1000
    for host in a b; do
        lab_expect "$host on the relay" lab_path "$host" relay-udp
        lab_moved "$host" 1 "${before[$host]}"
        lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
    done
    lab_wire_change a both ''
    # Daemons that know of no hole: those that do wait longer before they go back.
    if [[ $way == a-to-b ]]; then lab_again; fi
done
