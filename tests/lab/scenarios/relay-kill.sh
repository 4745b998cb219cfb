# shellcheck shell=bash
# The relay of two that have nothing else is killed without a word, stays away long enough for the back-off to grow, and comes back: what was
# sent meanwhile arrives, in order and once.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat relay-only
lab_network
# 15 s of frames are 15,000 packets and 12 MB: less than the ring holds.
outage=${LAB_OUTAGE:-15}
lab_oracle killed a b --seconds "$((outage + 9))" --max-gap-ms "$((outage * 1000 + 6000))" &
oracle=$!
lab_frames_pass a 500
stop relay KILL
lab_hold "$outage" "no relay"
for host in a b; do lab_wait 1 "$host to say that the relay is away" lab_status "$host" '.relays[0].state != "connected" or error'; done
up=$(lab_now_ms)
lab_relay
wait "$oracle" || lab_fail "frames were lost with the relay"
lab_back "relay up to frames" killed "$up" 2000
for host in a b; do
    lab_expect "$host is on the relay" lab_path "$host" relay-ws
    lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
done
lab_oracle afterwards a b --seconds 3
