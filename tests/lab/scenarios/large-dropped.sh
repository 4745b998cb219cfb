# shellcheck shell=bash
# Every packet over 600 bytes is dropped, on every path, both ways or one, while small ones pass: after three seconds nobody says connected, and
# nobody says it again while it is so.
. "$(dirname "$0")/../lib.sh"
# No transfer beside: what is large is dropped.
LAB_BESIDE=''
lab_topology relay_two_nat
lab_wire a ''
lab_network
# Each round's way.
ways=(both a-to-b)
if [[ -z ${LAB_QUICK:-} ]]; then
    for ((round = 2; round <= 20; round++)); do ways+=(both); done
    for ((round = 1; round <= 5; round++)); do ways+=(a-to-b b-to-a); done
fi

# is_told HOST — how HOST calls the peer; one that does not answer says nothing of that.
is_told() {
    local state
    state=$(lab_status "$1" '.peers[0].state')
    case $state in
    connected | connecting | offline) echo "$state" ;;
    *) lab_fail "$1 calls the peer ${state:-nothing}" ;;
    esac
}
# says_connected HOST SINCE — asks until it does not, and writes when it was last asked and still did, ms after SINCE.
says_connected() {
    local asked last=0 state=connected
    while asked=$(lab_now_ms) && state=$(is_told "$1") && [[ $state == connected ]]; do
        last=$((asked - $2))
        [[ $last -le 9000 ]] || break
        sleep 0.02
    done
    [[ -n $state ]]
    echo "$last" >"$LAB_DIR/$1.said"
}
round=0
for way in "${ways[@]}"; do
    round=$((round + 1))
    # Daemons that know of no earlier round: those wait longer before they trust a path again.
    if [[ $round -gt 1 ]]; then lab_again; fi
    lab_direct a b
    # Small frames, answered, all the time.
    lab_oracle "small-$round" a b --min-frame 64 --max-frame 120 --seconds 7 --max-lost 7000 --max-reordered 7000 &
    oracle=$!
    lab_frames_pass a 100
    lab_wire_change a "$way" mtu=600
    lab_wire_has a
    began=$(lab_now_ms)
    asking=()
    for host in a b; do
        says_connected "$host" "$began" &
        asking+=($!)
    done
    for pid in "${asking[@]}"; do wait "$pid" || lab_fail "no status"; done
    for host in a b; do
        said=$(cat "$LAB_DIR/$host.said")
        lab_measure "large packets dropped, $way, to not connected" "$said" ms 3000
        [[ $said -le 3000 ]] || lab_fail "$host still said connected $said ms after the large were dropped"
    done
    while kill -0 "$oracle" 2>/dev/null; do
        for host in a b; do
            state=$(is_told "$host")
            [[ $state != connected ]] || lab_fail "$host says connected again after $(($(lab_now_ms) - began)) ms, and nothing large passes"
        done
    done
    wait "$oracle" || lab_fail "frames came twice or damaged"
    lab_wire_change a both ''
done
