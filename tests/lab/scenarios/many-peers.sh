# shellcheck shell=bash
# Ten peers behind one NAT: every one of the 45 pairs is direct and stays so over an hour's rekeys, in a minute.
# long: ten daemons for a minute
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
hosts=(a b c d e f g h i j)
for n in 3 4 5 6 7 8 9; do lab_host "${hosts[n - 1]}" "$n"; done
# The tenth has no number of its own in the addresses outside, and needs none.
LAB_HOSTS+=(j)
lab_namespace j
ip -n "$LAB-j" link add eth0 type veth peer name spare
for host in "${hosts[@]:1}"; do lab_same_lan a "$host"; done
lab_network --rekey-interval 2s
all_direct() {
    lab_status "$1" '([.peers[] | select(.path.kind == "direct-udp" and .paths_agree)] | length) == 9 or error'
}
for host in "${hosts[@]}"; do lab_wait 30 "$host to be direct to all nine" all_direct "$host"; done
lab_oracle first a j --seconds 5
moves=$(for host in "${hosts[@]}"; do lab_status "$host" '[.peers[].switches] | add'; done | awk '{ sum += $1 } END { print sum }')
lab_hold 60 "thirty rekeys of every pair"
for host in "${hosts[@]}"; do
    lab_expect "$host is direct to all nine" all_direct "$host"
    lab_expect "$host rekeyed" lab_status "$host" '([.peers[].handshake.rekeys] | min) >= 25 or error'
    lab_expect "$host lost nothing" lab_status "$host" '([.peers[].lost] | add) == 0 or error'
done
after=$(for host in "${hosts[@]}"; do lab_status "$host" '[.peers[].switches] | add'; done | awk '{ sum += $1 } END { print sum }')
[[ $after == "$moves" ]] || lab_fail "there were $((after - moves)) moves"
lab_measure "direct pairs of 45" 45 pairs
lab_oracle last b i --seconds 5
