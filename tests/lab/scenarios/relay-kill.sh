# shellcheck shell=bash
# The relay is killed without a word, stays away long enough for the back-off to grow, and comes back.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat relay-only
lab_network
stop relay KILL
lab_hold "${LAB_OUTAGE:-15}" "no relay"
lab_wait 1 "a to say that the relay is away" lab_status a '.relays[0].state != "connected" or error'
lab_relay
lab_recovers "relay up to frames" a b 2000
lab_oracle afterwards a b --seconds 3
