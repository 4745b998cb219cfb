# shellcheck shell=bash
# A daemon with a direct path is frozen for half a minute and goes on as if nothing had been.
# long: half a minute of nothing
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_network
lab_direct a b
kill -STOP "${LAB_PID[b]}"
lab_hold "${LAB_OUTAGE:-30}" "b stands still"
lab_expect "a does not call b connected" lab_status a '[.peers[] | select(.state == "connected")] == [] or error'
kill -CONT "${LAB_PID[b]}"
awake=$(lab_now_ms)
lab_recovers "awake to frames" a b 2000
lab_direct a b 10
lab_measure "awake to direct" "$(($(lab_now_ms) - awake))" ms
lab_oracle afterwards a b --seconds 3
