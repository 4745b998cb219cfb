# shellcheck shell=bash
# One side's network is gone for a minute, links and addresses stay: traffic flows again as soon as packets pass.
# long: minutes of waiting
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat relay-only
lab_network
lab_oracle before a b --seconds 2
lab_block a
lab_hold 60 "a's network is gone"
lab_expect "a is not called connected" lab_status a '[.peers[] | select(.state == "connected")] == [] or error'
lab_unblock a
lab_recovers "network back to frames" a b 2000
lab_all_connected 5
lab_oracle afterwards a b --seconds 3
