# shellcheck shell=bash
# The ring cut to 64 KiB and a path that swallows half a megabyte: frames are lost, and both ends say how many.
. "$(dirname "$0")/../lib.sh"
# No transfer beside: the ring is for the frames that are counted.
LAB_BESIDE=''
lab_topology relay_two_nat
# Nothing direct is left when UDP fails.
lab_block_tcp a
lab_wire a ''
lab_network --ring tiny

# hole NAME — the direct path is one from now on; what was lost in it is counted alike by both ends, the oracle and the line.
hole() {
    local name=$1 host other way oracle missing counted resent twice control moves
    declare -A switches=([a]=$(lab_switches a) [b]=$(lab_switches b)) lost=() took=()
    for host in a b; do lost[$host]=$(lab_status "$host" '.peers[0].lost'); done
    lab_oracle "$name" a b --rate "$rate" --seconds 6 --max-gap-ms 3000 --max-lost 60000 &
    oracle=$!
    lab_frames_pass a 500
    for way in a_to_b b_to_a; do took[$way]=$(lab_wire_took a "$way"); done
    lab_wire_change a both only=peer-udp,block
    for host in a b; do lab_wait 3 "$host to be on the relay" lab_path "$host" relay-udp; done
    wait "$oracle" || lab_fail "frames came twice, late or damaged"
    for way in a:a_to_b b:b_to_a; do
        host=${way%%:*} way=${way#*:}
        took[$way]=$(($(lab_wire_took a "$way") - took[$way]))
        missing=$(lab_lost "$name" "$way")
        counted=$(($(lab_status "$host" '.peers[0].lost') - lost[$host]))
        lab_measure "$name: frames of $host missing at the other end" "$missing" frames
        [[ $missing -gt 0 ]] || lab_fail "nothing was lost: the ring was not cut"
        lab_counts_alike "$host" "$missing" "$counted"
        lab_expect "and says so of its last switch" lab_status "$host" ".peers[0].last_switch | (.to == \"relay-udp\" and .lost == $missing and .resent > 0) or error(tostring)"
        lab_expect "$host is on the relay" lab_path "$host" relay-udp
        # Who hears this way.
        if [[ $host == a ]]; then other=b; else other=a; fi
        lab_costs_alike "$other" "$name" "$way"
        resent=$(lab_status "$host" '.peers[0].last_switch.resent') twice=$(lab_status "$other" '.peers[0].last_switch.duplicates')
        # What went again and did not come twice the line took, and what was lost as well; besides, control packets of a path in doubt, as in direct-black-hole.
        control=$((took[$way] - resent - missing + twice))
        lab_measure "$name, $way: $resent went again, $twice came twice, the line took ${took[$way]}, so control packets" "$control" packets
        [[ $control -ge 0 && $control -le 40 ]] || lab_fail "$host and $other count other packets than the line"
        moves=$(($(lab_switches "$host") - switches[$host]))
        [[ $moves == 1 ]] || lab_fail "$host moved $moves times out of the hole: $(grep -o 'via .*' "$LAB_OUT/$host.log" | tr '\n' ' ')"
    done
}

# Each way 50 Mbit/s, and twice in a row, at full length.
rate=$(quick 2000 8000)
lab_direct a b
lab_only_oracle a b
lab_relay_known
hole hole-1
if [[ -z ${LAB_QUICK:-} ]]; then
    lab_wire_change a both ''
    ip -n "$LAB-a" address add 192.168.11.71/32 dev eth0
    lab_direct a b 20
    hole hole-2
fi
