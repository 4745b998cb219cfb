# shellcheck shell=bash
# A client is killed without a word and started again: plain `up` is enough, and its address and key are the same.
. "$(dirname "$0")/../lib.sh"
# No transfer beside: a daemon that is killed takes its device along.
LAB_BESIDE=''
lab_topology relay_two_nat "${LAB_TYPE:-relay-only}"
lab_network
before=$(lab_status b '.node | [.id, .addresses, .mac] | tostring')
stop b KILL
start b b shadowmesh up
lab_recovers "up to frames" a b 2000
lab_wait 5 "the daemon of b" lab_answers b
[[ $(lab_status b '.node | [.id, .addresses, .mac] | tostring') == "$before" ]] || lab_fail "b is another node after its restart"
lab_oracle afterwards a b --seconds 3
# The other one, and this time the peer has noticed that it is gone.
stop a KILL
lab_wait 60 "b to notice" lab_status b '.peers[0].state != "connected" or error'
start a a shadowmesh up
lab_recovers "up after having been missed to frames" a b 2000
lab_wait 5 "the daemon of a" lab_answers a
lab_all_connected 5
