# shellcheck shell=bash
# Two NATs through which nobody goes directly: the data takes the relay's datagrams, with one move, and the relay's stream when those fail.
. "$(dirname "$0")/../lib.sh"
lab_by_datagram
lab_expect "datagrams pass the relay" on relay sh -c 'shadowmesh-relay status --json | jq -e ".forwarded_datagrams > 0 and .pairs.relayed == 1"'
lab_oracle by-datagram a b --seconds "$(quick 3 5)"

if [[ -z ${LAB_QUICK:-} ]]; then
    # The relay is killed and stays away: everything comes back with it. (15 s of frames are less than the ring holds.)
    outage=${LAB_OUTAGE:-15}
    lab_oracle killed a b --seconds "$((outage + 9))" --max-gap-ms "$((outage * 1000 + 6000))" --max-reordered 100000 &
    oracle=$!
    lab_frames_pass a 500
    stop relay KILL
    lab_hold "$outage" "no relay"
    up=$(lab_now_ms)
    lab_relay
    wait "$oracle" || lab_fail "frames were lost with the relay"
    lab_back "relay up to frames" killed "$up" 2000
    for host in a b; do
        lab_wait 10 "$host to be on relay-udp" lab_path "$host" relay-udp
        lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
    done
fi

# UDP dies without a word: the stream takes over, and what was swallowed goes again.
before=$(lab_switches a)
lab_oracle blocked a b --seconds 6 --max-gap-ms 3000 &
oracle=$!
lab_frames_pass a 500
lab_wire_change a both only=udp,block
lab_wait 3 "a to be on the stream" lab_path a relay-ws
wait "$oracle" || lab_fail "frames were lost with the datagrams"
lab_measure "longest silence, UDP blocked" "$(lab_longest_gap blocked)" ms
[[ $(lab_switches a) == $((before + 1)) ]] || lab_fail "a moved $(($(lab_switches a) - before)) times"
