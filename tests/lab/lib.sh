# shellcheck shell=bash
# The namespace lab: real binaries on hosts behind real routers, all inside this machine.
#
# A scenario sources this file, lays a topology, starts daemons, breaks something and says what must hold. Everything a
# scenario makes carries its own prefix (sm<pid>), so scenarios may run side by side, and is removed when it ends, however
# it ends. tests/README.md tells how to write one.
#
# The map. `net` is the internet, one bridge; each host sits behind a router of its own:
#
#     relay 198.51.100.2, .3 ──┐       (relay2 at .4, in scenarios that have two)
#                             net ── r<host> 198.51.100.1N │ 192.168.1N.1 ── <host> 192.168.1N.2
#
# A host is a network, mount and host-name namespace with its own /run and /var/lib, so the commands of the manual are
# typed as they stand there, and two daemons of one machine do not meet. It knows no name server: what would ask one (a web server for
# its own name) is told at once that there is none.

set -euo pipefail
unset JOURNAL_STREAM NOTIFY_SOCKET
# A panic shows how it came about where RUST_BACKTRACE asks for that; an error is a sentence.
export RUST_LIB_BACKTRACE=0

LAB="sm$$"
LAB_DIR=$(mktemp -d "${TMPDIR:-/tmp}/sm-lab.XXXXXX")
LAB_NAME=$(basename "${0%.sh}")
LAB_OUT="${LAB_OUT:-artifacts/lab/$LAB_NAME}"
SM_BIN="${SM_BIN:-$PWD/target/release}"
# The programs of the tests package are always our own build, also when SM_BIN is a package.
LAB_TOOLS="${LAB_TOOLS:-${CARGO_TARGET_DIR:-$PWD/target}/release}"
PATH="$SM_BIN:$PATH"
RELAY_ADDRESS=198.51.100.2
# All that it has.
RELAY_ADDRESSES="{ 198.51.100.2, 198.51.100.3 }"
# Of another one (lab_second_relay).
RELAY2_ADDRESS=198.51.100.4
# So many hosts may have a router of their own: the number of one is in its addresses.
LAB_MOST=12

declare -A LAB_HOLDER=() # host → the process that keeps its namespaces
declare -A LAB_PID=()    # label → a background process
LAB_NAMESPACES=()
LAB_HOSTS=()             # those with a router and a daemon, in order

rm -rf "$LAB_OUT"
mkdir -p "$LAB_OUT"

# ── speaking ────────────────────────────────────────────────────────────────────────────────────────────────────────

# Also heard when a command's own output is thrown away (lab_wait).
exec 3>&2
step() { printf '%8.3f  %s\n' "$(lab_elapsed)" "$*"; }
lab_fail() {
    printf '%8.3f  FAILED: %s\n' "$(lab_elapsed)" "$*" >&3
    exit 1
}
# lab_measure WHAT VALUE UNIT [TARGET] — a number worth comparing between runs. scripts/lab gathers them, those of one name together.
lab_measure() {
    step "measured: $1 = $2 $3${4:+ (target $4)}"
    printf '%s\t%s\t%s\t%s\t%s\n' "$LAB_NAME" "$1" "$2" "$3" "${4:-}" >>"$LAB_OUT/measures.tsv"
}
# lab_took WHAT MS TARGET_MS — a silence. It fails only beyond three times its target, so that a busy machine is no failure. lab_within WHAT MS
# LIMIT_MS — a time that is promised: it fails beyond its limit.
lab_took() {
    lab_measure "$1" "$2" ms "$3"
    jq -en "$2 <= 3 * $3" >/dev/null || lab_fail "$1: $2 ms, the target is $3 ms"
}
lab_within() {
    lab_measure "$1" "$2" ms "$3"
    [[ $2 -le $3 ]] || lab_fail "$1: $2 ms, and $3 ms are promised"
}
lab_now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
LAB_STARTED=$(lab_now_ms)
lab_elapsed() { echo "$(($(lab_now_ms) - LAB_STARTED))e-3"; }

# ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────────────

# lab_wait SECONDS WHAT COMMAND… — asks again and again until COMMAND succeeds; the only way to wait for something.
lab_wait() {
    local deadline=$(($(lab_now_ms) + ${1} * 1000)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [[ $(lab_now_ms) -lt $deadline ]] || lab_fail "waited in vain for: $what"
        sleep 0.05
    done
}
# quick A B — A where time is short (LAB_QUICK), B at full length.
quick() { if [[ -n ${LAB_QUICK:-} ]]; then echo "$1"; else echo "$2"; fi; }
# lab_hold SECONDS WHAT — for conditions that are a length of time (an outage of a minute), never to hope for something.
lab_hold() {
    step "$2 for $1 s"
    sleep "$1"
}

# ── hosts ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# on HOST COMMAND… — runs it there.
on() {
    local holder=${LAB_HOLDER[$1]}
    shift
    nsenter --target "$holder" --net --mount --uts -- "$@"
}

# start LABEL HOST COMMAND… — in the background; stdout and stderr go to LABEL.out and LABEL.log of the artifacts. Both
# are appended to, so that a second start under one label keeps the first one's words.
start() {
    local label=$1 holder=${LAB_HOLDER[$2]}
    shift 2
    nsenter --target "$holder" --net --mount --uts -- "$@" >>"$LAB_OUT/$label.out" 2>>"$LAB_OUT/$label.log" </dev/null 3>&- &
    LAB_PID[$label]=$!
    disown
}
running() { [[ -n ${LAB_PID[$1]:-} ]] && kill -0 "${LAB_PID[$1]}" 2>/dev/null; }
stopped() { ! running "$1"; }
# stop LABEL [SIGNAL] — and waits until it is gone.
stop() {
    running "$1" || return 0
    kill "-${2:-TERM}" "${LAB_PID[$1]}" 2>/dev/null || true
    lab_wait 12 "$1 to end after SIG${2:-TERM}" stopped "$1"
    unset "LAB_PID[$1]"
}

lab_namespace() {
    local name=$1 home="$LAB_DIR/$1"
    ip netns add "$LAB-$name"
    LAB_NAMESPACES+=("$LAB-$name")
    ip -n "$LAB-$name" link set lo up
    mkdir -p "$home/run" "$home/var-lib"
    : >"$home/resolv.conf"
    nsenter --net="/run/netns/$LAB-$name" unshare --mount --uts --propagation private -- bash -c '
        hostname "$1" && mount -t sysfs sysfs /sys && mount --bind "$2/run" /run && mount --bind "$2/var-lib" /var/lib &&
            { [[ ! -e /etc/resolv.conf ]] || mount --bind "$2/resolv.conf" /etc/resolv.conf; } &&
            : >"$2/ready" && exec sleep infinity' holder "$name" "$home" </dev/null >/dev/null 2>"$home/holder.log" 3>&- &
    LAB_HOLDER[$name]=$!
    disown
    lab_wait 5 "namespaces of $name ($(cat "$home/holder.log" 2>/dev/null))" test -e "$home/ready"
}

# Joins NAME to the bridge of the internet with DEVICE at ADDRESS.
lab_attach() {
    local name=$1 device=$2 address=$3
    ip -n "$LAB-net" link add "p-$name" type veth peer name "$device" netns "$LAB-$name"
    ip -n "$LAB-net" link set "p-$name" master br0 up
    ip -n "$LAB-$name" address add "$address/24" dev "$device"
    ip -n "$LAB-$name" link set "$device" up
    # Public subnets behind routers that do not translate (lab_nat open, firewall).
    local n
    for ((n = 1; n <= LAB_MOST; n++)); do
        [[ $address == "198.51.100.1$n" ]] ||
            ip -n "$LAB-$name" route add "203.0.113.$((16 * n))/28" via "198.51.100.1$n" dev "$device"
    done
}

# lab_host NAME N — a host and its router; the router translates nothing until lab_nat.
lab_host() {
    local name=$1 n=$2
    lab_namespace "$name"
    lab_namespace "r$name"
    lab_attach "r$name" wan "198.51.100.1$n"
    on "r$name" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    LAB_HOSTS+=("$name")
    LAB_NUMBER[$name]=$n
    lab_plug "$name"
}
declare -A LAB_NUMBER=()
# Whose private addresses a host has, where they are not its own: two hosts may have the same, each behind its router (set before lab_nat).
declare -A LAB_LAN=()

# lab_plug HOST — into its router.
lab_plug() {
    local name=$1 n=${LAB_NUMBER[$1]}
    ip -n "$LAB-r$name" link add lan type veth peer name eth0 netns "$LAB-$name"
    ip -n "$LAB-r$name" link set lan up
    ip -n "$LAB-$name" link set eth0 up
    lab_lan "$name" "192.168.1$n.1" "192.168.1$n.2" 24
}

lab_lan() {
    local name=$1 router=$2 host=$3 prefix=$4
    ip -n "$LAB-r$name" address flush dev lan scope global
    ip -n "$LAB-$name" address flush dev eth0 scope global
    ip -n "$LAB-r$name" address add "$router/$prefix" dev lan
    ip -n "$LAB-$name" address add "$host/$prefix" dev eth0
    ip -n "$LAB-$name" route replace default via "$router"
}

# lab_topology relay_two_nat | relay_three_nat [TYPE] — behind routers of this type, else port-restricted ones. Behind relay-only
# ones everything stays on the relay's stream.
lab_topology() {
    lab_namespace net
    ip -n "$LAB-net" link add br0 type bridge
    ip -n "$LAB-net" link set br0 up
    # Somebody who is not the relay.
    ip -n "$LAB-net" address add 198.51.100.9/24 dev br0
    lab_namespace relay
    lab_attach relay eth0 "$RELAY_ADDRESS"
    ip -n "$LAB-relay" address add 198.51.100.3/24 dev eth0
    lab_host a 1
    lab_host b 2
    case $1 in
    relay_two_nat) ;;
    relay_three_nat) lab_host c 3 ;;
    *) lab_fail "no such topology: $1" ;;
    esac
    local host checks=()
    for host in "${LAB_HOSTS[@]}"; do
        lab_nat "$host" "${2:-port-restricted}" &
        checks+=($!)
    done
    for host in "${checks[@]}"; do wait "$host" || exit 1; done
    lab_capture
}

# What went over the wires, headers only and at most 40 MB each, for when the scenario fails; nothing where LAB_NO_CAPTURE says so, for who
# measures. lab_capture_anew throws away what it has.
lab_capture() {
    [[ -z ${LAB_NO_CAPTURE:-} ]] || return 0
    local host
    for host in relay "${LAB_HOSTS[@]}"; do lab_capture_on "$host" eth0; done
}
lab_capture_on() { # HOST DEVICE
    [[ -z ${LAB_NO_CAPTURE:-} ]] || return 0
    start "capture-$1-$2" "$1" tcpdump -i "$2" -n -s 96 -B 8192 -C 20 -W 2 -Z root -w "$PWD/$LAB_OUT/$1-$2.pcap"
}
lab_capture_anew() {
    lab_no_capture
    rm -f "$LAB_OUT"/*.pcap*
    lab_capture
}
lab_no_capture() {
    local label
    for label in "${!LAB_PID[@]}"; do if [[ $label == capture-* ]]; then stop "$label"; fi; done
}

# ── what else there is ──────────────────────────────────────────────────────────────────────────────────────────────

# shellcheck source=tests/lab/lib/router.sh
. "${BASH_SOURCE[0]%/*}/lib/router.sh"
# shellcheck source=tests/lab/lib/network.sh
. "${BASH_SOURCE[0]%/*}/lib/network.sh"
# shellcheck source=tests/lab/lib/line.sh
. "${BASH_SOURCE[0]%/*}/lib/line.sh"
# shellcheck source=tests/lab/lib/product.sh
. "${BASH_SOURCE[0]%/*}/lib/product.sh"
# shellcheck source=tests/lab/lib/oracle.sh
. "${BASH_SOURCE[0]%/*}/lib/oracle.sh"
# shellcheck source=tests/lab/lib/frames.sh
. "${BASH_SOURCE[0]%/*}/lib/frames.sh"
# shellcheck source=tests/lab/lib/debian.sh
. "${BASH_SOURCE[0]%/*}/lib/debian.sh"

# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────

lab_keep_evidence() {
    local host family
    for host in relay relay2; do
        if [[ -n ${LAB_HOLDER[$host]:-} ]]; then timeout 3 nsenter --target "${LAB_HOLDER[$host]}" --net --mount --uts -- shadowmesh-relay status --json >"$LAB_OUT/$host.state" 2>&1 || true; fi
    done
    for host in "${LAB_HOSTS[@]}"; do
        {
            timeout 3 nsenter --target "${LAB_HOLDER[$host]}" --net --mount --uts -- shadowmesh status --json
            ip -n "$LAB-$host" -s address
            ip -n "$LAB-$host" route
            ip -n "$LAB-$host" -6 route
            echo "router of $host:"
            ip -n "$LAB-r$host" address
            for family in -4 -6; do
                ip -n "$LAB-r$host" "$family" route
                ip -n "$LAB-r$host" "$family" neigh
            done
            ip netns exec "$LAB-r$host" nft list ruleset
        } >"$LAB_OUT/$host.state" 2>&1 || true
    done
}

lab_end() {
    local code=$? label pid
    trap - EXIT
    set +e
    if [[ $code -ne 0 ]]; then
        lab_keep_evidence
        # What else a scenario wants to keep: a function of its own, and no other trap, which would hide how it ended.
        if declare -F evidence >/dev/null; then evidence >/dev/null 2>&1; fi
    fi
    for label in "${!LAB_PID[@]}"; do kill "${LAB_PID[$label]}" 2>/dev/null; done
    local deadline=$(($(lab_now_ms) + 3000))
    for label in "${!LAB_PID[@]}"; do
        while running "$label" && [[ $(lab_now_ms) -lt $deadline ]]; do sleep 0.02; done
        running "$label" && kill -KILL "${LAB_PID[$label]}" 2>/dev/null
    done
    # Whatever started itself there, such as a daemon of `up --detach`.
    for label in "${LAB_NAMESPACES[@]}"; do
        for pid in $(ip netns pids "$label" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
    done
    for pid in "${LAB_HOLDER[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    for label in "${LAB_NAMESPACES[@]}"; do ip netns delete "$label" 2>/dev/null; done
    rm -rf "$LAB_DIR"
    if [[ $code -eq 0 && -z ${LAB_KEEP:-} ]]; then rm -f "$LAB_OUT"/*.pcap*; fi
    exit "$code"
}
trap lab_end EXIT
trap 'exit 130' INT TERM
