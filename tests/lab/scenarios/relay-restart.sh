# shellcheck shell=bash
# The relay is told to stop and starts again: it drains within 10 s, and traffic flows without anybody's hand.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat relay-only
lab_network
began=$(lab_now_ms)
stop relay
lab_measure "relay drained in" "$(($(lab_now_ms) - began))" ms
lab_hold 3 "no relay"
lab_relay
# The clients pinned the relay's key, so this also shows that it kept it.
lab_recovers "relay up to frames" a b 2000
lab_oracle afterwards a b --seconds 3
lab_all_connected 5
