# shellcheck shell=bash
# The router of one side forgets its mapping every 5 s: data follows the new address, without the relay and without a handshake.
# long: not part of scripts/test
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_nat b open
lab_network
lab_direct a b
rebinds=${LAB_QUICK:+4}
rebinds=${rebinds:-12}
age=$(lab_status a '.peers[0].handshake.age_s')
lab_oracle rebinds a b --seconds "$((rebinds * 5 + 4))" --max-gap-ms 900 &
oracle=$!
remote() { lab_status b '.peers[0].path.remote'; }
moved() { [[ $(remote) == 198.51.100.11:* && $(remote) != "$1" ]]; }
for ((n = 1; n <= rebinds; n++)); do
    sleep 5
    before=$(remote)
    lab_rebind a
    lab_wait 4 "b to send to the new address" moved "$before"
done
wait "$oracle" || lab_fail "a rebind was felt"
lab_measure "longest silence over $rebinds rebinds" "$(lab_longest_gap rebinds)" ms
for host in a b; do
    lab_expect "$host is direct" lab_path "$host" direct-udp
    lab_measure "moves of $host" "$(lab_switches "$host")" times
done
[[ $(lab_switches b) == 1 ]] || lab_fail "b moved $(lab_switches b) times"
lab_expect "the session is the same" lab_status a ".peers[0].handshake.age_s >= $age or error"
