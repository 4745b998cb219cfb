# shellcheck shell=bash
# All of a host's traffic is routed into the tunnel: the daemon's own packets do not follow, now or when it connects anew.
# long: routes that few have
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat "${LAB_TYPE:-relay-only}"
lab_network
# What VPN clients do: two routes that beat the default one and leave it in place.
for half in 0.0.0.0/1 128.0.0.0/1; do on a ip route add "$half" via "$(lab_address b)" dev "$(lab_device a)"; done
lab_expect "the relay's address leads into the tunnel now" on a sh -c "ip route get $RELAY_ADDRESS | grep -q $(lab_device a)"
# The connection that stood before the routes came may break over them; a new one must know the way around.
lab_recovers "routes changed to frames" a b 2000
lab_hold 4 "a heartbeat goes by"
lab_recovers "and still" a b 2000
lab_oracle routed-into-tunnel a b --seconds 3
stop relay KILL
lab_hold 3 "no relay"
lab_relay
lab_recovers "relay up to frames" a b 2000
lab_oracle afterwards a b --seconds 3
stop a
start a a shadowmesh up
lab_recovers "plain up to frames" a b 2000
