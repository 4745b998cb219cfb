# shellcheck shell=bash
# A machine that is a copy of another, key and all: each of the two is told so, neither loops without pause, and a third is not disturbed.
# long: minutes of waiting
. "$(dirname "$0")/../lib.sh"
# No transfer beside: an address has two hosts.
LAB_BESIDE=''
lab_topology relay_three_nat
lab_network
lab_oracle before a c --seconds 3
lab_expect "b leaves" on b shadowmesh down
# c's state on b: what a cloned disk does.
on c tar -C /var/lib/shadowmesh -c . | on b sh -c 'rm -rf /var/lib/shadowmesh && mkdir -m 700 /var/lib/shadowmesh && tar -C /var/lib/shadowmesh -x'
registrations() { on relay shadowmesh-relay status --json | jq .registrations; }
before=$(registrations)
start b b shadowmesh up
for host in b c; do
    lab_wait 60 "$host to be told" grep -Eq "copy of its key|node's key is in use" "$LAB_OUT/$host.log" "$LAB_OUT/$host.out"
done
lab_hold 8 "both go on"
registered=$(($(registrations) - before))
lab_measure "registrations of the two" "$registered" times
[[ $registered -le 25 ]] || lab_fail "they throw each other out without pause"
lab_expect "a is on the relay" lab_status a '.relays[0].state == "connected" or error'
