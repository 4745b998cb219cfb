# shellcheck shell=bash
# A link of 1280 bytes, and one that becomes so while in use, with not a word of it by ICMP: frames of 1518 bytes pass the direct path.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_wire a mtu=1280
lab_network --mtu 1500
lab_direct a b
not_running() { ! running "$1"; }
mtu_is() { lab_status "$1" "(.peers[0].path.mtu >= $2 and .peers[0].path.mtu <= $3) or error"; }
for host in a b; do lab_wait 10 "the packet size of $host to be known" mtu_is "$host" 1264 1280; done
# With a VLAN tag the largest has 1518 bytes.
lab_oracle narrow a b --seconds 5 --vlan 5
lab_expect "ordinary ping of full size, not to be fragmented" on a ping -M "do" -s 1472 -c 3 -i 0.2 "$(lab_address b)"
for host in a b; do
    lab_expect "$host is direct" lab_path "$host" direct-udp
    lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
done

# A wide link: found by the look for more, or at once by a path that is new.
lab_wire_change a both ''
on a shadowmesh down
lab_wait 5 "the daemon of a to be gone" not_running a
lab_up a --mtu 1500
lab_direct a b 20
for host in a b; do lab_wait 10 "the packet size of $host to be known" mtu_is "$host" 1484 1500; done

# It becomes narrow while frames of every size pass.
lab_oracle narrowing a b --seconds 8 --vlan 5 --max-lost 6000 --max-reordered 6000 --max-gap-ms 3000 &
oracle=$!
lab_frames_pass a 500
lab_wire_change a both mtu=1280
began=$(lab_now_ms)
for host in a b; do lab_wait 9 "$host to find out" mtu_is "$host" 1260 1280; done
lab_measure "narrow link to a packet size that passes, both sides" "$(($(lab_now_ms) - began))" ms
wait "$oracle" || lab_fail "the link's narrowing was felt"
lab_oracle narrowed a b --seconds 5 --vlan 5
for host in a b; do lab_expect "$host is direct" lab_path "$host" direct-udp; done
