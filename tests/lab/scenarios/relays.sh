# shellcheck shell=bash
# A second relay is added and the first one removed and stopped, while frames pass by them and directly: every daemon follows, nothing is lost, and who joins then
# needs only the second.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat symmetric
# a and b have nothing but relays between them; c is direct to both.
lab_nat c full-cone
lab_host d 4
lab_nat d port-restricted
hosts=(a b c)
LAB_HOSTS=("${hosts[@]}")
lab_relay
lab_second_relay
[[ $RELAY2_TICKET != "$RELAY_TICKET" ]] || lab_fail "two relays are one"

lab_expect "a network with certificates is made, on one relay" on a shadowmesh network create office --relay "$RELAY_TICKET"
lab_up a
INVITE=$(on a shadowmesh invite --uses 2 2>/dev/null)
for host in b c; do lab_up "$host" "$INVITE"; done
lab_all_connected 20
peer() { echo ".peers[] | select(.name == \"$1\")"; }
by() { lab_status "$1" "$(peer "$2") | (.path.kind == \"$3\" and .paths_agree) or error"; }
on_their_paths() { by a b relay-udp && by b a relay-udp && by a c direct-udp && by c a direct-udp && by b c direct-udp && by c b direct-udp; }
lab_wait 15 "a and b to be on the relay's datagrams, and c direct" on_their_paths

# has HOST ADDRESS… — the relays that it has are these, and it is at each.
has() {
    local host=$1 wanted
    shift
    wanted=$(printf '%s\n' "$@" | jq -R . | jq -sc sort)
    lab_status "$host" "([.relays[] | select(.state == \"connected\") | .url | capture(\"//(?<at>[^/]*)/\").at] | sort) as \$at | (.relays | length) as \$all |
        (\$at == $wanted and \$all == $#) or error(\$at | tostring)"
}
# they_have WHAT SINCE ADDRESS… — until all have exactly these; the time since then that the last one took, in TOOK.
they_have() {
    local what=$1 since=$2 host
    shift 2
    for host in "${hosts[@]}"; do lab_wait 40 "$host: $what" has "$host" "$@"; done
    took=$(($(lab_now_ms) - since))
}
clients() { on "$1" shadowmesh-relay status --json | jq -e ".clients == $2"; }
first="$RELAY_ADDRESS:8443" second="$RELAY2_ADDRESS:8443"
they_have "to be at the first" "$(lab_now_ms)" "$first"

# under NAME SECONDS COMMAND… — while frames pass between a and b by a relay, and between a and c directly.
under() {
    local name=$1 seconds=$2 pids=() pid
    shift 2
    lab_oracle "$name-relayed" a b --seconds "$seconds" &
    pids+=($!)
    lab_oracle "$name-direct" a c --seconds "$seconds" --seed 2 &
    pids+=($!)
    lab_frames_pass b 500
    lab_frames_pass c 500
    "$@"
    for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || lab_fail "the frames were over before: $name"; done
    for pid in "${pids[@]}"; do wait "$pid" || lab_fail "frames were lost: $name"; done
    for host in "${hosts[@]}"; do lab_expect "$host counts none lost" lab_status "$host" 'all(.peers[]; .lost == 0) or error'; done
}

add_second() {
    local since
    since=$(lab_now_ms)
    lab_expect "an admin adds the second relay" on a shadowmesh relays add "$RELAY2_TICKET"
    they_have "to be at both" "$since" "$first" "$second"
    lab_took "from relays add to registered there, all" "$took" 2000
    lab_expect "the second has all of them" clients relay2 3
    for host in "${hosts[@]}"; do lab_expect "$host lists both" sh -c "nsenter --target ${LAB_HOLDER[$host]} --net --mount --uts -- shadowmesh relays list --json | jq -e '.relays | length == 2'"; done
}
under added "$(quick 6 12)" add_second

# What is no more is left 15 s later. The frames between a and b go by it until then.
remove_first() {
    local since forwarded
    forwarded=$(lab_forwarded relay2)
    since=$(lab_now_ms)
    lab_expect "and removes the first" on a shadowmesh relays remove "$first"
    they_have "to be at the second alone" "$since" "$second"
    lab_within "from relays remove to left by all" "$took" 25000
    lab_wait 5 "nobody to be at the first" clients relay 0
    stop relay
    lab_frames_pass b 500
    forwarded=$(($(lab_forwarded relay2) - forwarded))
    lab_measure "bytes that the second forwarded meanwhile" "$forwarded" bytes
    [[ $forwarded -gt 100000 ]] || lab_fail "the second relay forwards nothing, and frames pass by a relay"
}
under removed "$(quick 24 35)" remove_first
lab_wait 15 "a and b to be on the datagrams of the second, and c direct" on_their_paths

# A newcomer, who knows nothing but the invite.
INVITE=$(on a shadowmesh invite --name dora 2>/dev/null)
LAB_HOSTS+=(d) hosts+=(d)
since=$(lab_now_ms)
start d d shadowmesh up "$INVITE"
lab_wait 15 "the daemon of d" lab_answers d
lab_all_connected 20
lab_took "from up to connected to all, by an invite into the second" $(($(lab_now_ms) - since)) 3000
they_have "to be at the second alone" "$since" "$second"
lab_expect "d was never told of the first" sh -c "! grep -q '$RELAY_ADDRESS' '$LAB_OUT/d.log'"
under afterwards "$(quick 2 5)" true

# It is in the state: who starts anew knows the second alone.
stop b
lab_up b
lab_all_connected 20
lab_expect "b begins at the second" has b "$second"
