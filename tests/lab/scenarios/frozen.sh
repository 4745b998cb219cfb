# shellcheck shell=bash
# A daemon is frozen for half a minute (a laptop lid, a busy hypervisor) and goes on as if nothing had been.
# long: minutes of waiting
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat "${LAB_TYPE:-relay-only}"
lab_network
kill -STOP "${LAB_PID[b]}"
lab_hold "${LAB_OUTAGE:-30}" "b stands still"
lab_expect "a does not call b connected" lab_status a '[.peers[] | select(.state == "connected")] == [] or error'
kill -CONT "${LAB_PID[b]}"
lab_recovers "awake to frames" a b 2000
lab_all_connected 5
lab_oracle afterwards a b --seconds 3
