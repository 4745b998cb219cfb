# shellcheck shell=bash
# The relay is killed and comes back while the two are direct: nobody notices.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
# Nothing direct is left when UDP fails.
lab_block_tcp a
lab_network
lab_direct a b
lab_oracle without-relay a b --seconds "$(quick 9 12)" --max-gap-ms 60 &
oracle=$!
lab_wait 5 "frames to pass" lab_status a '.peers[0].rx_frames > 500 or error'
stop relay KILL
lab_wait 5 "a to say that the relay is away" lab_status a '.relays[0].state != "connected" or error'
lab_expect "and b still connected" lab_status a '.peers[0].state == "connected" or error'
lab_hold 3 "no relay"
lab_relay
lab_wait 10 "a to have the relay again" lab_status a '.relays[0].state == "connected" or error'
wait "$oracle" || lab_fail "the direct path was disturbed"
for host in a b; do
    lab_expect "$host still direct" lab_path "$host" direct-udp
    [[ $(lab_switches "$host") == 1 ]] || lab_fail "$host moved $(lab_switches "$host") times"
done
# The channel is a new one, and the way back works.
lab_wire a only=udp,block
lab_oracle relayed a b --seconds "$(quick 2 4)" --max-gap-ms 3000
lab_expect "a is on the relay" lab_path a relay-ws
