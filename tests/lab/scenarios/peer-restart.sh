# shellcheck shell=bash
# A peer is killed and starts again, with its key and with a new one, while the two are direct: frames pass in 2 s, directly in 10.
. "$(dirname "$0")/../lib.sh"
# No transfer beside: a daemon that is killed takes its device along.
LAB_BESIDE=''
lab_topology relay_two_nat
lab_network
lab_direct a b
stop b KILL
lab_hold 1 "b is dead"
lab_up b
began=$(lab_now_ms)
lab_recovers "same key: up to frames" a b 2000
lab_direct a b 30
lab_measure "same key: up to direct" "$(($(lab_now_ms) - began))" ms
lab_oracle same-key a b --seconds 3

stop b KILL
on b sh -c 'rm -r /var/lib/shadowmesh'
invite=$(on a shadowmesh invite --expires 1h | grep -om1 'smi1[A-Za-z0-9_-]*')
lab_up b "$invite"
began=$(lab_now_ms)
lab_recovers "new key: up to frames" a b 2000
new_is_direct() { lab_status "$1" '[.peers[] | select(.path.kind == "direct-udp" and .paths_agree)] != [] or error'; }
lab_wait 30 "a to be direct" new_is_direct a
lab_wait 30 "b to be direct" new_is_direct b
lab_measure "new key: up to direct" "$(($(lab_now_ms) - began))" ms
lab_oracle new-key a b --seconds 3
