# shellcheck shell=bash
# The cable is out for 1, 5 and, at full length, 30 s: what fits the ring arrives, what does not is counted by both ends, and it goes on
# directly as soon as the cable is in again.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_network
lab_direct a b

# down NAME SECONDS OPTION… — under frames of the oracle with these options.
declare -A missing=() counted=()
down() {
    local name="down-$1" seconds=$2 host in oracle
    shift 2
    for host in a b; do counted[$host]=$(lab_status "$host" '.peers[0].lost'); done
    lab_oracle "$name" a b --seconds "$((seconds + 6))" --max-reordered 100000 --max-gap-ms "$((seconds * 1000 + 3000))" --settle-ms 4000 "$@" &
    oracle=$!
    lab_frames_pass a 500
    ip -n "$LAB-ra" link set lan down
    lab_hold "$seconds" "a's cable is out"
    in=$(lab_now_ms)
    ip -n "$LAB-ra" link set lan up
    lab_direct a b 30
    lab_measure "cable in to direct" "$(($(lab_now_ms) - in))" ms
    wait "$oracle" || lab_fail "$name: more was lost than may be"
    lab_back "cable in to frames" "$name" "$in" 1000
    for host in a b; do
        counted[$host]=$(($(lab_status "$host" '.peers[0].lost') - counted[$host]))
        lab_expect "$host is direct" lab_path "$host" direct-udp
    done
    missing[a]=$(lab_lost "$name" a_to_b) missing[b]=$(lab_lost "$name" b_to_a)
}

# The ring holds 16 MiB and 32,768 packets of a peer: all of these. (500 bytes on average, so that 30 s are 15 MB.)
for seconds in $(quick 5 "1 5 30"); do
    down "$seconds" "$seconds" --max-frame 900
    for host in a b; do [[ ${counted[$host]} == 0 ]] || lab_fail "$host counts ${counted[$host]} lost, none is missing"; done
done

# 750 bytes on average: 22 MB. No transfer beside: what a ring that is full loses of it would be counted among the frames.
if [[ -z ${LAB_QUICK:-} ]]; then
    LAB_BESIDE=''
    lab_only_oracle a b
    down too-long 30 --max-lost 31000
    for host in a b; do
        lab_measure "down-too-long: frames of $host missing at the other end" "${missing[$host]}" frames
        [[ ${missing[$host]} -gt 0 ]] || lab_fail "nothing of $host was lost: the ring did not overflow"
        lab_counts_alike "$host" "${missing[$host]}" "${counted[$host]}" 4
    done
fi
