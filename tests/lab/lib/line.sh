# shellcheck shell=bash
# Bad lines: the wire before a router or the relay. A part of lib.sh.

# lab_wire HOST FAULTS — puts a bad line between the host's router (its carrier's, if it has one), or the relay, and the internet (a-to-b is
# outwards from there). Offloads are turned off on both sides of it, so that one loss is one packet. Its chances come from LAB_SEED, 1 unless said.
lab_wire() {
    local name=$1 commands="$LAB_DIR/$1.wire" end="r$1" device=wan
    if [[ $name == relay ]]; then end=relay device=eth0; fi
    if [[ -n ${LAB_HOLDER[c$name]:-} ]]; then end="c$name"; fi
    LAB_WIRED[$name]=$2
    ip -n "$LAB-net" link set "p-$end" nomaster
    ip -n "$LAB-net" link add "w-$name" type veth peer name "x-$name"
    ip -n "$LAB-net" link set "x-$name" master br0 up
    ip -n "$LAB-net" link set "w-$name" up
    on "$end" ethtool -K "$device" tso off gso off gro off tx off >/dev/null
    on net ethtool -K "x-$name" tso off gso off gro off tx off >/dev/null
    rm -f "$commands"
    mkfifo "$commands"
    : >"$LAB_OUT/wire-$name.out"
    # Opened for both, so that neither side waits for the other and the wire never sees an end.
    start "wire-$name" net sh -c "exec '$LAB_TOOLS/wire' --seed '${LAB_SEED:-1}' --a ':p-$end' --b ':w-$name' --both '$2' <>'$commands'"
    lab_wait 5 "the wire of $name" grep -q ready "$LAB_OUT/wire-$name.out"
    step "line of $name: $2"
}
# lab_faults HOST — what is wrong with the line before its router as it was laid, or «none» where there is none.
declare -A LAB_WIRED=()
lab_faults() { echo "${LAB_WIRED[$1]-none}"; }
lab_unwire() {
    stop "wire-$1"
    ip -n "$LAB-net" link delete "w-$1"
    unset "LAB_WIRED[$1]"
}
# lab_wire_change HOST both|a-to-b|b-to-a FAULTS — from now on.
lab_wire_change() {
    echo "$2 ${3:-}" >"$LAB_DIR/$1.wire"
    step "line of $1: $2 ${3:-perfect}"
}
# lab_wire_has HOST — until the line has taken in what it was told last. Without a pause: something is measured from then on.
lab_wire_has() {
    local out="$LAB_OUT/wire-$1.out" had deadline=$(($(lab_now_ms) + 5000))
    had=$(wc -l <"$out")
    echo report >"$LAB_DIR/$1.wire"
    until lab_longer "$out" "$had"; do [[ $(lab_now_ms) -lt $deadline ]] || lab_fail "no account of the line of $1"; done
}
# lab_wire_took HOST WAY — frames that the line took from WAY (a_to_b or b_to_a) so far, by its own account: by chance, by a rule, or because
# its queue was full.
lab_wire_took() {
    lab_wire_has "$1"
    tail -n 1 "$LAB_OUT/wire-$1.out" | jq ".$2 | .lost + .dropped + .overflowed"
}
lab_longer() { [[ $(wc -l <"$1") -gt $2 ]]; }
