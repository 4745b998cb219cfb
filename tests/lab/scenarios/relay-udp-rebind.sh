# shellcheck shell=bash
# On the relay's datagrams: UDP is blocked and comes back, and the NAT forgets its mapping.
# long: it waits for retries
. "$(dirname "$0")/../lib.sh"
lab_by_datagram

# Somebody speaks: a pair that is silent finds out with its next heartbeat.
on a ping -q -i 0.2 -c 50 "$(lab_address b)" >/dev/null &
ping=$!
lab_wire_change a both only=udp,block
lab_wait 5 "a to be on the stream" lab_path a relay-ws
wait "$ping" || lab_fail "no ping came back at all"
# It comes back; a changed address is reason enough to try.
lab_wire_change a both ''
ip -n "$LAB-a" address add 192.168.11.77/32 dev eth0
for host in a b; do lab_wait 75 "$host to be on relay-udp again" lab_path "$host" relay-udp; done

# The NAT forgets its mapping: the relay binds the new one.
lab_oracle rebound a b --seconds 40 --max-gap-ms 3000 &
oracle=$!
lab_frames_pass a 500
lab_rebind a
wait "$oracle" || lab_fail "frames were lost with the mapping"
lab_measure "longest silence, mapping forgotten" "$(lab_longest_gap rebound)" ms
for host in a b; do lab_expect "$host is on relay-udp" lab_path "$host" relay-udp; done
