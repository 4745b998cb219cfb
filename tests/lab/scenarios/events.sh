# shellcheck shell=bash
# Two that cannot go direct try again in a minute, but at once when something changed: another address, route, link or mapping, or a wake-up. The first
# packet between them is on the wire within two seconds of each.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat symmetric
for host in a b; do lab_block_tcp "$host"; done
lab_network
for host in a b; do lab_wait 10 "$host to be on relay-udp" lab_path "$host" relay-udp; done

# What a sends to the other's router, as it leaves: seconds since 1970 a line.
start watch a tcpdump -i eth0 -Q out -n -l --immediate-mode -tt "udp and not (host 198.51.100.2 or host 198.51.100.3)"
lab_wait 5 "tcpdump" grep -q 'listening on' "$LAB_OUT/watch.log"
tries_since() { awk -v since="$1" '$1 * 1000 > since { print int($1 * 1000 - since); exit }' "$LAB_OUT/watch.out"; }
tried_since() { [[ -n $(tries_since "$1") ]]; }
# A round is over, and the next is far: what is tried from here on has a reason. (To a host that never answered, a check leaves each 2 s once there
# were twenty, protocol §7.5: so a pause that is longer says that there is another.)
is_quiet() {
    [[ -z $(tries_since $(($(lab_now_ms) - 2500))) ]] && lab_status a '.peers[0].next_direct_try_s > 12 or error'
}

# event NAME WHAT COMMAND… — under frames, which go by the relay, and none of which is lost or comes twice.
events=0
event() {
    local name=$1 what=$2 since oracle
    shift 2
    events=$((events + 1))
    lab_wait 30 "nobody to try anything" is_quiet
    lab_oracle "$name" a b --seconds "$(quick 6 10)" --max-reordered 100000 --max-gap-ms 6000 &
    oracle=$!
    lab_frames_pass a 500
    since=$(lab_now_ms)
    "$@"
    # Those that take their time say when they were over.
    if [[ -s $LAB_DIR/since ]]; then since=$(cat "$LAB_DIR/since") && rm "$LAB_DIR/since"; fi
    lab_wait 10 "a to try" tried_since "$since"
    kill -0 "$oracle" 2>/dev/null || lab_fail "the frames were over before it was tried"
    wait "$oracle" || lab_fail "frames were lost"
    lab_within "$what: to the first packet between them" "$(tries_since "$since")" 2000
}
another_address() { ip -n "$LAB-a" address add 192.168.11.77/32 dev eth0; }
another_route() {
    ip -n "$LAB-ra" address add 192.168.11.9/24 dev lan
    ip -n "$LAB-a" route replace default via 192.168.11.9
}
link_flaps() {
    ip -n "$LAB-ra" link set lan down
    lab_hold 1 "a's cable is out"
    lab_now_ms >"$LAB_DIR/since"
    ip -n "$LAB-ra" link set lan up
}
another_mapping() {
    on ra conntrack -D -p udp >/dev/null 2>&1 || true
}
wakes_up() {
    kill -STOP "${LAB_PID[a]}"
    lab_hold 12 "a sleeps"
    lab_now_ms >"$LAB_DIR/since"
    kill -CONT "${LAB_PID[a]}"
}

event address "another address" another_address
event link "a link that was down" link_flaps
event route "another route" another_route
event mapping "another mapping" another_mapping
if [[ -z ${LAB_QUICK:-} ]]; then
    for n in 1 2 3 4 5; do event "link-$n" "a link that was down" link_flaps; done
fi
# Asleep, it reads nothing, and its device holds some hundred frames: without frames, which are for frozen.sh to count.
events=$((events + 1))
lab_wait 30 "nobody to try anything" is_quiet
wakes_up
since=$(cat "$LAB_DIR/since")
lab_wait 10 "a to try" tried_since "$since"
lab_within "a wake-up: to the first packet between them" "$(tries_since "$since")" 2000
for host in a b; do lab_wait 10 "$host to be on relay-udp" lab_path "$host" relay-udp; done
lab_oracle awake a b --seconds 2
lab_measure "kinds of events" "$events" events

# And they help: what was in the way is gone, and the next of them brings the two together.
for host in a b; do lab_nat "$host" port-restricted; done
# The stream to the relay may break with its mapping, and that it is there again is an event as well.
is_quiet_or_direct() { is_quiet || lab_path a direct-udp; }
lab_wait 30 "nobody to try anything" is_quiet_or_direct
for host in a b; do ip -n "$LAB-$host" address add "192.168.1${LAB_NUMBER[$host]}.78/32" dev eth0; done
lab_direct a b 5
