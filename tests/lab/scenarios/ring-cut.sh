# shellcheck shell=bash
# The ring cut to 64 KiB and a path that swallows half a megabyte: frames are lost, and both ends say how many.
. "$(dirname "$0")/../lib.sh"
# No transfer beside: the ring is for the frames that are counted.
LAB_BESIDE=''
lab_topology relay_two_nat
# Nothing direct is left when UDP fails.
lab_block_tcp a
lab_wire a ''
lab_network --tiny-ring
lab_direct a b
lab_only_oracle a b
declare -A before=([a]=$(lab_switches a) [b]=$(lab_switches b))
lab_oracle hole a b --rate 2000 --seconds 6 --max-gap-ms 3000 --max-lost 8000 &
oracle=$!
lab_frames_pass a 500
declare -A took=([a_to_b]=$(lab_wire_took a a_to_b) [b_to_a]=$(lab_wire_took a b_to_a))
lab_wire_change a both only=peer-udp,block
for host in a b; do lab_wait 3 "$host to be on the relay" lab_path "$host" relay-udp; done
wait "$oracle" || lab_fail "frames came twice, late or damaged"
for way in a:a_to_b b:b_to_a; do
    host=${way%%:*}
    took[${way#*:}]=$(($(lab_wire_took a "${way#*:}") - took[${way#*:}]))
    missing=$(jq ".${way#*:}.lost" "$LAB_OUT/hole.json")
    counted=$(lab_status "$host" '.peers[0].lost')
    lab_measure "frames of $host missing at the other end" "$missing" frames
    [[ $missing -gt 0 ]] || lab_fail "nothing was lost: the ring was not cut"
    lab_counts_alike "$host" "$missing" "$counted"
    lab_expect "and says so of its last switch" lab_status "$host" ".peers[0].last_switch | (.to == \"relay-udp\" and .lost == $missing and .resent > 0) or error(tostring)"
    lab_expect "$host is on the relay" lab_path "$host" relay-udp
    # Who hears this way.
    if [[ $host == a ]]; then other=b; else other=a; fi
    lab_costs_alike "$other" hole "${way#*:}"
    resent=$(lab_status "$host" '.peers[0].last_switch.resent') twice=$(lab_status "$other" '.peers[0].last_switch.duplicates')
    # What went again and did not come twice the line took, and what was lost as well; besides, control packets of a path in doubt, as in direct-black-hole.
    control=$((took[${way#*:}] - resent - missing + twice))
    lab_measure "$way: $resent went again, $twice came twice, the line took ${took[${way#*:}]}, so control packets" "$control" packets
    [[ $control -ge 0 && $control -le 40 ]] || lab_fail "$host and $other count other packets than the line"
    moves=$(($(lab_switches "$host") - before[$host]))
    [[ $moves == 1 ]] || lab_fail "$host moved $moves times out of the hole: $(grep -o 'via .*' "$LAB_OUT/$host.log" | tr '\n' ' ')"
done
