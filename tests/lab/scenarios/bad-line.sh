# shellcheck shell=bash
# A slow and lossy uplink: the stream to the relay repairs what the line loses, so frames are late, never lost, doubled or swapped.
# long: not part of scripts/test
. "$(dirname "$0")/../lib.sh"
# No transfer beside: the wire loses what it loses; TCP has its own scenario.
LAB_BESIDE=''
lab_topology relay_two_nat relay-only
lab_wire a delay=20ms,jitter=3ms
lab_wire b delay=15ms
lab_network
lab_oracle slow a b --seconds 5
lab_wire_change a both delay=20ms,loss=1%,reorder=0.5%,duplicate=0.5%
# As much as one TCP connection carries there: frames are small.
lab_oracle lossy a b --seconds 10 --max-frame 200 --settle-ms 5000
lab_wire_change a both delay=20ms
lab_expect "the round trip is what the line makes it" lab_status a '(.peers[0].path.rtt_ms > 60 and .peers[0].path.rtt_ms < 150) or error'
lab_all_connected 5
