# shellcheck shell=bash
# The product: started, joined to a network, asked what it says of itself. A part of lib.sh.

# lab_relay [ARGUMENT…] — starts the relay and waits until it has printed its ticket, which is in RELAY_TICKET then. lab_second_relay [ARGUMENT…] —
# another one, on a host of its own; RELAY2_TICKET.
lab_relay() {
    lab_relay_on relay "$@"
    RELAY_TICKET=$(lab_ticket relay)
}
lab_second_relay() {
    if [[ -z ${LAB_HOLDER[relay2]:-} ]]; then
        lab_namespace relay2
        lab_attach relay2 eth0 "$RELAY2_ADDRESS"
        lab_capture_on relay2 eth0
    fi
    lab_relay_on relay2 "$@"
    # For scenarios.
    # shellcheck disable=SC2034
    RELAY2_TICKET=$(lab_ticket relay2)
}
lab_relay_on() {
    local name=$1
    shift
    : >"$LAB_OUT/$name.out"
    start "$name" "$name" shadowmesh-relay "$@"
    lab_wait 10 "the ticket of $name ($name.log)" grep -qm1 '^relay ticket: smr1' "$LAB_OUT/$name.out"
}
lab_ticket() {
    local ticket
    ticket=$(sed -n '1s/^relay ticket: //p' "$LAB_OUT/$1.out")
    [[ $ticket =~ ^smr1[A-Za-z0-9_-]+$ ]] || lab_fail "the first line of $1 is no ticket: $(head -1 "$LAB_OUT/$1.out")"
    echo "$ticket"
}

# lab_up HOST [ARGUMENT…] — starts `shadowmesh up` there and waits until its daemon answers.
lab_up() {
    local host=$1
    shift
    start "$host" "$host" shadowmesh up "$@"
    lab_wait 15 "the daemon of $host ($host.log)" lab_answers "$host"
}
lab_answers() {
    running "$1" || lab_fail "the daemon of $1 ended: $(tail -3 "$LAB_OUT/$1.log")"
    on "$1" shadowmesh status --json
}

# The invite that the first `up` of a network printed, in INVITE.
lab_invite() {
    lab_wait 10 "the invite of $1" grep -q '^join with: sudo shadowmesh up smi1' "$LAB_OUT/$1.out"
    INVITE=$(sed -n 's/^join with: sudo shadowmesh up //p' "$LAB_OUT/$1.out" | head -1)
}

# Relay, a network made by the first host, all the others joined, everybody connected to everybody.
lab_network() {
    lab_relay
    lab_up "${LAB_HOSTS[0]}" --relay "$RELAY_TICKET" "$@"
    lab_invite "${LAB_HOSTS[0]}"
    local host
    for host in "${LAB_HOSTS[@]:1}"; do lab_up "$host" "$INVITE" "$@"; done
    lab_all_connected 20
    for host in "${LAB_HOSTS[@]}"; do step "$host: $(lab_status "$host" '.node.addresses | join(" ")')"; done
}

# lab_again — every daemon ends and begins anew with what it knows of the network.
lab_again() {
    local host
    for host in "${LAB_HOSTS[@]}"; do stop "$host"; done
    for host in "${LAB_HOSTS[@]}"; do lab_up "$host"; done
    lab_all_connected 20
}

lab_all_connected() {
    local host
    for host in "${LAB_HOSTS[@]}"; do
        lab_wait "$1" "$host to be connected to all others" lab_connected "$host" $((${#LAB_HOSTS[@]} - 1))
    done
}

# lab_path HOST KIND — whether its data for the only peer goes by KIND, and the peer says the same of its own.
lab_path() { lab_status "$1" ".peers[0] | (.path.kind == \"$2\" and .paths_agree) or error"; }
# lab_direct A B [SECONDS] — waits until both send directly.
lab_direct() {
    lab_wait "${3:-5}" "$1 to be direct" lab_path "$1" direct-udp
    lab_wait "${3:-5}" "$2 to be direct" lab_path "$2" direct-udp
}
# lab_relay_known — the two have been up for so long that the relay's datagrams were tried, which they are after two seconds, and rest: before that
# who falls out of a direct path takes the relay's stream on its way.
lab_relay_known() { lab_hold 3 "the relay's datagrams are tried"; }
# lab_frames_pass HOST N — waits until N more frames came to it, from whomever.
lab_frames_pass() {
    local had
    had=$(lab_status "$1" '[.peers[].rx_frames] | add')
    lab_wait 5 "frames to pass" lab_status "$1" "([.peers[].rx_frames] | add) > $had + $2 or error"
}
# lab_by_datagram — a and b through whose routers nobody goes directly, a line before that of a, the data on the relay's datagrams
# after one move.
lab_by_datagram() {
    local host
    lab_topology relay_two_nat symmetric
    lab_wire a ''
    lab_network
    for host in a b; do
        lab_wait 6 "$host to be on relay-udp" lab_path "$host" relay-udp
        [[ $(lab_switches "$host") == 1 ]] || lab_fail "$host moved $(lab_switches "$host") times"
    done
}
# lab_switches HOST — how often it moved its data to another kind of path.
lab_switches() { lab_status "$1" '.peers[0].switches'; }
# lab_moved HOST N SINCE — fails unless it moved N times since it had moved SINCE times.
lab_moved() {
    local moves=$(($(lab_switches "$1") - $3))
    [[ $moves == "$2" ]] || lab_fail "$1 moved $moves times, not $2"
}
# lab_forwarded [RELAY] — what it forwarded so far, bytes of packets between peers.
lab_forwarded() { on "${1:-relay}" shadowmesh-relay status --json | jq .forwarded_bytes; }

# No address of HOST waits for its duplicate check (DAD, about a second after a device comes up).
lab_addresses_settled() { [[ -z $(ip -n "$LAB-$1" -6 address show tentative) ]]; }

# lab_status HOST FILTER — a field of `status --json`.
lab_status() { on "$1" shadowmesh status --json | jq -er "$2"; }
lab_connected() { lab_status "$1" "([.peers[] | select(.state == \"connected\")] | length) >= $2 or error"; }
lab_address() { lab_status "$1" '.node.addresses[0] | split("/")[0]'; }
lab_device() { lab_status "$1" '.node.device'; }
