# shellcheck shell=bash
# The namespace lab: real binaries on hosts behind real routers, all inside this machine.
#
# A scenario sources this file, lays a topology, starts daemons, breaks something and says what must hold. Everything a
# scenario makes carries its own prefix (sm<pid>), so scenarios may run side by side, and is removed when it ends, however
# it ends. tests/README.md tells how to write one.
#
# The map. `net` is the internet, one bridge; each host sits behind a router of its own:
#
#     relay 198.51.100.2, .3 ──┐
#                             net ── r<host> 198.51.100.1N │ 192.168.1N.1 ── <host> 192.168.1N.2
#
# A host is a network, mount and host-name namespace with its own /run and /var/lib, so the commands of the manual are
# typed as they stand there, and two daemons of one machine do not meet. It knows no name server: what would ask one (a web server for
# its own name) is told at once that there is none.

set -euo pipefail
unset JOURNAL_STREAM NOTIFY_SOCKET

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
# A number worth comparing between runs; scripts/lab gathers them.
lab_measure() {
    step "measured: $1 = $2 $3"
    printf '%s\t%s\t%s\t%s\n' "$LAB_NAME" "$1" "$2" "$3" >>"$LAB_OUT/measures.tsv"
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
    for n in 1 2 3 4 5 6 7 8 9; do
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
    local host
    for host in "${LAB_HOSTS[@]}"; do lab_nat "$host" "${2:-port-restricted}"; done
    lab_capture
}

# What went over the wires, headers only and at most 40 MB each, for when the scenario fails.
lab_capture() {
    local host
    [[ -z ${LAB_NO_CAPTURE:-} ]] || return 0
    for host in relay "${LAB_HOSTS[@]}"; do
        start "capture-$host" "$host" tcpdump -i eth0 -n -s 96 -B 8192 -C 20 -W 2 -Z root -w "$PWD/$LAB_OUT/$host.pcap"
    done
}

# ── routers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

# lab_nat HOST TYPE — what the host's router does; the type is checked before it is believed.
lab_nat() {
    local name=$1 type=$2 n=${LAB_NUMBER[$1]} wan="198.51.100.1${LAB_NUMBER[$1]}" host="192.168.1${LAB_NUMBER[$1]}.2"
    local established='ct state established,related accept' out='iifname "lan" accept' nat='' forward='' sets='' expect
    case $type in
    open | firewall) host="203.0.113.$((16 * n + 2))" && lab_lan "$name" "203.0.113.$((16 * n + 1))" "$host" 28 ;;
    *) lab_lan "$name" "192.168.1$n.1" "$host" 24 ;;
    esac
    local everything_in="iifname \"wan\" dnat ip to $host" everything_out="oifname \"wan\" snat ip to $wan"
    case $type in
    open)
        forward='accept'
        expect='true endpoint-independent endpoint-independent true'
        ;;
    firewall)
        forward="$established; $out"
        expect='true endpoint-independent address-and-port-dependent true'
        ;;
    full-cone)
        nat="$everything_out" sets="$everything_in"
        forward='accept'
        expect='true endpoint-independent endpoint-independent true'
        ;;
    address-restricted)
        nat="$everything_out" sets="$everything_in"
        forward='iifname "lan" add @talked_to { ip daddr } accept; iifname "wan" ip saddr @talked_to accept'
        expect='true endpoint-independent address-dependent true'
        ;;
    port-restricted)
        nat='oifname "wan" masquerade'
        forward="$established; $out"
        expect='true endpoint-independent address-and-port-dependent true'
        ;;
    port-shifting)
        nat="oifname \"wan\" meta l4proto { tcp, udp } snat ip to $wan:61000-65000; oifname \"wan\" masquerade"
        forward="$established; $out"
        expect='true endpoint-independent address-and-port-dependent false'
        ;;
    symmetric)
        nat='oifname "wan" masquerade fully-random'
        forward="$established; $out"
        expect='true endpoint-dependent address-and-port-dependent false'
        ;;
    udp-blocked)
        nat='oifname "wan" masquerade'
        forward="meta l4proto udp drop; $established; $out"
        expect='false null null null'
        ;;
    relay-only)
        nat='oifname "wan" masquerade'
        forward="$established; iifname \"lan\" ip daddr $RELAY_ADDRESSES meta l4proto tcp accept"
        expect='false null null null'
        ;;
    tcp-443)
        nat='oifname "wan" masquerade'
        forward="$established; iifname \"lan\" tcp dport 443 accept"
        expect='false null null null'
        ;;
    *) lab_fail "no such router: $type" ;;
    esac
    # An unsolicited packet that reaches the router itself would make a conntrack entry on the tuple that the host's own
    # mapping needs a moment later; so what arrives from outside for the router is dropped before it is one.
    on "r$name" nft -f - <<RULES
flush ruleset
table ip lab {
    set talked_to { type ipv4_addr; flags dynamic, timeout; timeout 2m; }
    chain prerouting { type nat hook prerouting priority -100; $sets; }
    chain postrouting { type nat hook postrouting priority 100; $nat; }
    chain forward { type filter hook forward priority 0; policy drop; $forward; }
    chain input { type filter hook input priority 0; iifname "wan" drop; }
}
RULES
    local found
    found=$("$LAB_TOOLS/natcheck" --inside "$LAB-$name" --outside "$LAB-relay" --addresses "$RELAY_ADDRESS" 198.51.100.3 |
        jq -r '"\(.udp) \(.mapping) \(.filtering) \(.port_kept)"')
    # A symmetric router may by chance keep a port; what counts is that the two mappings differ.
    if [[ $type == symmetric ]]; then found=${found% *} expect=${expect% *}; fi
    [[ $found == "$expect" ]] || lab_fail "the $type router of $name is none: it does «$found», not «$expect»"
    on "r$name" conntrack -F >/dev/null 2>&1 || true
    step "router of $name: $type (checked)"
}

# lab_router NAME ADDRESS LAN HOST DEVICE — one more port-restricted router, at ADDRESS on the internet and LAN.1 before DEVICE of HOST.
lab_router() {
    local router=$1 address=$2 lan=$3 host=$4 device=$5
    lab_namespace "$router"
    lab_attach "$router" wan "$address"
    ip -n "$LAB-$router" link add lan type veth peer name "$device" netns "$LAB-$host"
    ip -n "$LAB-$router" link set lan up
    ip -n "$LAB-$router" address add "$lan.1/24" dev lan
    on "$router" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    on "$router" nft -f - <<RULES
table ip lab {
    chain postrouting { type nat hook postrouting priority 100; oifname "wan" masquerade; }
    chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; }
    chain input { type filter hook input priority 0; iifname "wan" drop; }
}
RULES
}

# lab_carrier HOST — puts the router of a carrier, port-restricted as well, between HOST's own and the internet (RFC 6598).
lab_carrier() {
    local name=$1 n=${LAB_NUMBER[$1]}
    ip -n "$LAB-net" link delete "p-r$name"
    lab_router "c$name" "198.51.100.2$n" "100.64.$n" "r$name" wan
    ip -n "$LAB-r$name" address add "100.64.$n.2/24" dev wan
    ip -n "$LAB-r$name" link set wan up
    ip -n "$LAB-r$name" route add default via "100.64.$n.1"
    step "a carrier's router before that of $name"
}

# lab_block_udp HOST / lab_allow_udp HOST — its router drops all UDP, and lets it through again.
lab_block_udp() {
    on "r$1" nft add table ip hold
    on "r$1" nft add chain ip hold forward '{ type filter hook forward priority -5; }'
    on "r$1" nft add rule ip hold forward meta l4proto udp drop
    step "the router of $1 drops UDP"
}
lab_allow_udp() {
    on "r$1" nft delete table ip hold
    step "the router of $1 lets UDP through"
}

# lab_block_tcp HOST / lab_allow_tcp HOST — its router drops all TCP but that with the relay, and lets it through again.
# lab_syns_dropped HOST N — whether it dropped more than N SYNs.
lab_block_tcp() {
    on "r$1" nft -f - <<RULES
table ip hold_tcp {
    counter syns { }
    chain forward {
        type filter hook forward priority -5
        ip daddr $RELAY_ADDRESSES accept
        ip saddr $RELAY_ADDRESSES accept
        tcp flags & (syn | ack) == syn counter name syns drop
        meta l4proto tcp drop
    }
}
RULES
    step "the router of $1 drops TCP that is not with the relay"
}
lab_allow_tcp() {
    on "r$1" nft delete table ip hold_tcp
    step "the router of $1 lets TCP through"
}
lab_syns_dropped() {
    local dropped
    dropped=$(on "r$1" nft -j list counter ip hold_tcp syns | jq '[.nftables[].counter.packets | numbers] | add')
    [[ $dropped -gt $2 ]]
}

# lab_rebind HOST — its router forgets every mapping and gives other outside ports from now on (behind a port-restricted one).
declare -A LAB_REBINDS=()
lab_rebind() {
    local name=$1 wan="198.51.100.1${LAB_NUMBER[$1]}" first
    LAB_REBINDS[$name]=$((${LAB_REBINDS[$name]:-0} + 1))
    first=$((20000 + 400 * LAB_REBINDS[$name]))
    on "r$name" nft -f - <<RULES
flush chain ip lab postrouting
add rule ip lab postrouting oifname "wan" meta l4proto udp snat to $wan:$first-$((first + 399)) random
add rule ip lab postrouting oifname "wan" masquerade
RULES
    # The relay's stream is not what this is about.
    on "r$name" conntrack -D -p udp >/dev/null 2>&1 || true
}

# lab_second_uplink HOST — another router on HOST's eth1, port-restricted, not used yet. lab_uplink HOST eth0|eth1 moves to it or
# back: the other link goes down, and the default route with it.
lab_second_uplink() {
    local name=$1 n=${LAB_NUMBER[$1]}
    lab_router "u$name" "198.51.100.4$n" "192.168.4$n" "$name" eth1
    step "$name has a second uplink"
}
lab_uplink() {
    local name=$1 n=${LAB_NUMBER[$1]} other=eth0 network="192.168.1${LAB_NUMBER[$1]}"
    if [[ $2 == eth0 ]]; then other=eth1; else network="192.168.4$n"; fi
    ip -n "$LAB-$name" link set "$other" down
    ip -n "$LAB-$name" link set "$2" up
    ip -n "$LAB-$name" address replace "$network.2/24" dev "$2"
    ip -n "$LAB-$name" route replace default via "$network.1"
}

# lab_uplink_family HOST eth0|eth1 4|6|dual — as lab_uplink, to a network that has these families. The other one is gone.
lab_uplink_family() {
    local name=$1 device=$2 families=$3 n=${LAB_NUMBER[$1]} other=eth0 network prefix router="u$1"
    network="192.168.4$n" prefix="2001:db8:4$n"
    if [[ $device == eth0 ]]; then other=eth1 network="192.168.1$n" prefix="2001:db8:$n" router="r$1"; fi
    if [[ $router == u* ]]; then lab_router6 "$router" "4$n"; else lab_router6 "$router" "1$n"; fi
    ip -n "$LAB-$name" link set "$other" down
    ip -n "$LAB-$name" address flush dev "$device"
    ip -n "$LAB-$name" link set "$device" up
    if [[ $families != 6 ]]; then
        ip -n "$LAB-$name" address replace "$network.2/24" dev "$device"
        ip -n "$LAB-$name" route replace default via "$network.1"
    fi
    if [[ $families != 4 ]]; then
        ip -n "$LAB-$name" address replace "$prefix::2/64" dev "$device" nodad
        ip -n "$LAB-$name" -6 route replace default via "$prefix::1" dev "$device"
    fi
}

# lab_same_lan HOST OTHER — plugs OTHER into the LAN behind HOST's router, at its address .3.
lab_same_lan() {
    local name=$1 other=$2 n=${LAB_NUMBER[$1]} port more
    if ! ip -n "$LAB-r$name" link show lan0 >/dev/null 2>&1; then
        # The rules of the router name the device, so the bridge takes the name.
        ip -n "$LAB-r$name" link set lan down
        ip -n "$LAB-r$name" link set lan name lan0
        ip -n "$LAB-r$name" address flush dev lan0
        ip -n "$LAB-r$name" link add lan type bridge
        ip -n "$LAB-r$name" link set lan0 master lan up
        ip -n "$LAB-r$name" link set lan up
        lab_lan "$name" "192.168.1$n.1" "192.168.1$n.2" 24
    fi
    more=$(on "r$name" sh -c 'ls -d /sys/class/net/lan/brif/* | wc -l')
    port="lan$more"
    ip -n "$LAB-$other" link delete eth0
    ip -n "$LAB-r$name" link add "$port" type veth peer name eth0 netns "$LAB-$other"
    ip -n "$LAB-r$name" link set "$port" master lan up
    ip -n "$LAB-$other" link set eth0 up
    ip -n "$LAB-$other" address add "192.168.1$n.$((2 + more))/24" dev eth0
    ip -n "$LAB-$other" route replace default via "192.168.1$n.1"
    step "$other is on the LAN of $name"
}

# lab_one_nat HOST OTHER hairpin|none — OTHER is behind HOST's router as well, on another LAN from which HOST's is out of reach. What one of
# them sends to the other's outside address comes back inside, or does not; which is checked. lab_own_router OTHER — it is behind its own again.
lab_one_nat() {
    local name=$1 other=$2 hairpin=$3 n=${LAB_NUMBER[$1]} m=${LAB_NUMBER[$2]} wan="198.51.100.1${LAB_NUMBER[$1]}" back='' through='' expect=false found
    lab_lan "$name" "192.168.1$n.1" "192.168.1$n.2" 24
    ip -n "$LAB-$other" link delete eth0
    ip -n "$LAB-r$name" link add lan2 type veth peer name eth0 netns "$LAB-$other"
    ip -n "$LAB-r$name" address add "192.168.1$m.1/24" dev lan2
    ip -n "$LAB-r$name" link set lan2 up
    ip -n "$LAB-$other" link set eth0 up
    ip -n "$LAB-$other" address add "192.168.1$m.2/24" dev eth0
    ip -n "$LAB-$other" route replace default via "192.168.1$m.1"
    if [[ $hairpin == hairpin ]]; then
        # A port outside is the port inside, and whose it is was noted when it was used; what comes back has the outside address as well.
        back="iifname { \"lan\", \"lan2\" } ip daddr $wan meta l4proto udp dnat ip to udp dport map @whose"
        through='iifname { "lan", "lan2" } oifname { "lan", "lan2" } ct status dnat accept'
        expect=true
    fi
    on "r$name" nft -f - <<RULES
flush ruleset
table ip lab {
    map whose { type inet_service : ipv4_addr; flags dynamic, timeout; timeout 2m; }
    chain prerouting { type nat hook prerouting priority -100; $back; }
    chain postrouting {
        type nat hook postrouting priority 100;
        oifname "wan" masquerade
        oifname { "lan", "lan2" } ct status dnat snat ip to $wan
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname { "lan", "lan2" } oifname "wan" meta l4proto udp update @whose { udp sport : ip saddr }
        ct state established,related accept
        iifname { "lan", "lan2" } oifname "wan" accept
        $through
    }
    chain input { type filter hook input priority 0; iifname "wan" drop; }
}
RULES
    found=$("$LAB_TOOLS/natcheck" --inside "$LAB-$name" --beside "$LAB-$other" --outside "$LAB-relay" --addresses "$RELAY_ADDRESS" 198.51.100.3 | jq -r .hairpin)
    [[ $found == "$expect" ]] || lab_fail "the router of $name: hairpin is «$found», not «$expect»"
    on "r$name" conntrack -F >/dev/null 2>&1 || true
    step "$other is behind the router of $name, on a LAN of its own: hairpin $found (checked)"
}
lab_own_router() {
    ip -n "$LAB-$1" link delete eth0
    lab_plug "$1"
}

# lab_internet6 — the internet has IPv6 as well, and so has the relay; before that starts. lab_only6 HOST — HOST's network has nothing
# else, behind a firewall that lets in what is answered. lab_add6 HOST — it has that beside what it has. lab_no6 HOST — it has none any
# more; lab_nat brings IPv4 back.
lab_internet6() {
    ip -n "$LAB-relay" address add 2001:db8:ff::2/64 dev eth0 nodad
    lab_routes6 relay eth0
}
lab_routes6() { # NAMESPACE DEVICE — to the networks behind all routers but its own, and behind second uplinks
    local n
    for n in 1 2 3 4 5 6 7 8 9; do
        if [[ ${LAB_NUMBER[${1#r}]:-} != "$n" ]]; then ip -n "$LAB-$1" route replace "2001:db8:$n::/64" via "2001:db8:ff::1$n" dev "$2"; fi
        if [[ ${LAB_NUMBER[${1#u}]:-} != "$n" ]]; then ip -n "$LAB-$1" route replace "2001:db8:4$n::/64" via "2001:db8:ff::4$n" dev "$2"; fi
    done
}
lab_router6() { # ROUTER NUMBER — its network has IPv6 as well, behind a firewall that lets in what is answered
    local router=$1 n=$2
    ip -n "$LAB-$router" address replace "2001:db8:ff::$n/64" dev wan nodad
    ip -n "$LAB-$router" address replace "2001:db8:${n#1}::1/64" dev lan nodad
    on "$router" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    lab_routes6 "$router" wan
    on "$router" nft -f - <<RULES
table ip6 lab
delete table ip6 lab
table ip6 lab {
    chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; }
    chain input { type filter hook input priority 0; meta l4proto ipv6-icmp accept; iifname "wan" drop; }
}
RULES
}
lab_add6() {
    local name=$1 n=${LAB_NUMBER[$1]}
    lab_router6 "r$name" "1$n"
    ip -n "$LAB-$name" address replace "2001:db8:$n::2/64" dev eth0 nodad
    ip -n "$LAB-$name" -6 route replace default via "2001:db8:$n::1" dev eth0
}
lab_only6() {
    local name=$1
    on "r$name" nft flush ruleset
    lab_add6 "$name"
    ip -n "$LAB-r$name" -4 address flush dev lan
    ip -n "$LAB-$name" -4 address flush dev eth0
    step "the network of $name is IPv6 only, behind a firewall"
}
lab_no6() {
    ip -n "$LAB-$1" -6 address flush dev eth0 scope global
    ip -n "$LAB-r$1" -6 address flush dev lan scope global
    ip -n "$LAB-r$1" -6 address flush dev wan scope global
}

# Nothing passes HOST's router until lab_unblock; both the host and the router keep their links and addresses.
lab_block() {
    on "r$1" nft 'table ip outage { chain forward { type filter hook forward priority -10; policy drop; }; chain output { type filter hook output priority -10; policy drop; }; }'
}
lab_unblock() { on "r$1" nft delete table ip outage; }

# lab_wire HOST FAULTS — puts a bad line between the host's router, or the relay, and the internet (a-to-b is outwards from
# there). Offloads are turned off on both sides of it, so that one loss is one packet.
lab_wire() {
    local name=$1 commands="$LAB_DIR/$1.wire" end="r$1" device=wan
    if [[ $name == relay ]]; then end=relay device=eth0; fi
    ip -n "$LAB-net" link set "p-$end" nomaster
    ip -n "$LAB-net" link add "w-$name" type veth peer name "x-$name"
    ip -n "$LAB-net" link set "x-$name" master br0 up
    ip -n "$LAB-net" link set "w-$name" up
    on "$end" ethtool -K "$device" tso off gso off gro off tx off >/dev/null
    on net ethtool -K "x-$name" tso off gso off gro off tx off >/dev/null
    mkfifo "$commands"
    # Opened for both, so that neither side waits for the other and the wire never sees an end.
    start "wire-$name" net sh -c "exec '$LAB_TOOLS/wire' --a ':p-$end' --b ':w-$name' --both '$2' <>'$commands'"
    lab_wait 5 "the wire of $name" grep -q ready "$LAB_OUT/wire-$name.out"
    step "line of $name: $2"
}
# lab_wire_change HOST both|a-to-b|b-to-a FAULTS — from now on.
lab_wire_change() {
    echo "$2 ${3:-}" >"$LAB_DIR/$1.wire"
    step "line of $1: $2 ${3:-perfect}"
}

# ── the product ─────────────────────────────────────────────────────────────────────────────────────────────────────

# lab_relay [ARGUMENT…] — starts the relay and waits until it has printed its ticket, which is in RELAY_TICKET then.
lab_relay() {
    : >"$LAB_OUT/relay.out"
    start relay relay shadowmesh-relay "$@"
    lab_wait 10 "the relay's ticket (relay.log)" grep -qm1 '^relay ticket: smr1' "$LAB_OUT/relay.out"
    RELAY_TICKET=$(sed -n '1s/^relay ticket: //p' "$LAB_OUT/relay.out")
    [[ $RELAY_TICKET =~ ^smr1[A-Za-z0-9_-]+$ ]] || lab_fail "the relay's first line is no ticket: $(head -1 "$LAB_OUT/relay.out")"
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
# lab_frames_pass HOST N — waits until N more frames came to it.
lab_frames_pass() {
    local had
    had=$(lab_status "$1" '.peers[0].rx_frames')
    lab_wait 5 "frames to pass" lab_status "$1" ".peers[0].rx_frames > $had + $2 or error"
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
# lab_longest_gap NAME — the longest silence of an oracle's run, ms.
lab_longest_gap() { jq '[.a_to_b, .b_to_a] | map(.longest_gap_ms) | max' "$LAB_OUT/$1.json"; }
# What the relay forwarded so far, bytes of the device it has on the internet.
lab_relay_bytes() { on relay sh -c 'cat /sys/class/net/eth0/statistics/tx_bytes'; }

# No address of HOST waits for its duplicate check (DAD, about a second after a device comes up).
lab_addresses_settled() { [[ -z $(ip -n "$LAB-$1" -6 address show tentative) ]]; }

# lab_status HOST FILTER — a field of `status --json`.
lab_status() { on "$1" shadowmesh status --json | jq -er "$2"; }
lab_connected() { lab_status "$1" "([.peers[] | select(.state == \"connected\")] | length) >= $2 or error"; }
lab_address() { lab_status "$1" '.node.addresses[0] | split("/")[0]'; }
lab_device() { lab_status "$1" '.node.device'; }

# ── judging ─────────────────────────────────────────────────────────────────────────────────────────────────────────

# lab_oracle NAME A B [OPTION…] — runs the frame oracle between the tunnels of two hosts; zero of every fault unless the
# options allow more. Its report is NAME.json of the artifacts. A TCP transfer from A to B runs beside it (lab_beside), unless LAB_BESIDE
# is empty, time is short (LAB_QUICK), or the oracle itself runs for less than five seconds.
LAB_BESIDE=${LAB_BESIDE-2}
lab_oracle() {
    local name=$1 a=$2 b=$3 seconds=5 option beside=''
    shift 3
    local ends=(--a "$LAB-$a:${LAB_DEVICE:-smesh0}" --b "$LAB-$b:${LAB_DEVICE:-smesh0}") options=("$@")
    for option in "${!options[@]}"; do
        if [[ ${options[$option]} == --seconds ]]; then seconds=${options[$((option + 1))]%.*}; fi
    done
    if [[ -n $LAB_BESIDE && -z ${LAB_QUICK:-} && $seconds -ge 5 ]]; then
        lab_beside "$name" "$a" "$b" "$seconds" &
        beside=$!
    fi
    if "$LAB_TOOLS/oracle" run "${ends[@]}" "${options[@]}" >"$LAB_OUT/$name.json" 2>"$LAB_OUT/$name.oracle"; then
        step "oracle $name: $(lab_oracle_line "$name")"
    else
        lab_fail "oracle $name: $(cat "$LAB_OUT/$name.oracle")"
    fi
    if [[ -n $beside ]]; then wait "$beside" || lab_fail "the transfer beside oracle $name failed"; fi
}
# lab_beside NAME A B SECONDS — a file from A to B at LAB_BESIDE Mbit/s, for so long and a little: whatever happens to the paths meanwhile,
# the connection goes on.
lab_beside() {
    local name="beside-$1" rate=$((LAB_BESIDE * 125000))
    lab_serve "$name" "$2" "$(($4 * rate))"
    lab_fetch "$name" "$2" "$3" "$rate" || return 1
    stop "$name"
}
lab_oracle_line() {
    jq -r '[.a_to_b, .b_to_a] | "sent \(map(.sent) | add), lost \(map(.lost) | add), duplicated \(map(.duplicated) | add), reordered \(map(.reordered) | add), corrupted \(map(.corrupted) | add), longest gap \(map(.longest_gap_ms) | max) ms, delay p50 \(map(.delay_ms.p50) | max) ms"' "$LAB_OUT/$1.json"
}

# lab_serve NAME A BYTES — a web server on A with a file of that size. lab_fetch NAME A B RATE — B fetches it through the tunnel at so many
# bytes a second: by one TCP connection, and its SHA-256 must be the same at both ends. In the background beside an oracle, so that what is
# proved of frames is seen by TCP.
declare -A LAB_PORT=()
lab_serve() {
    local name=$1 a=$2 home="$LAB_DIR/$2/run/$1"
    LAB_PORT[$name]=$((20000 + RANDOM % 10000))
    mkdir -p "$home"
    head -c "$3" /dev/urandom >"$home/file"
    start "$name" "$a" python3 -m http.server "${LAB_PORT[$name]}" --bind "$(lab_address "$a")" --directory "/run/$name"
    lab_wait 10 "the server of $name" on "$a" sh -c "ss -Hltn | grep -q :${LAB_PORT[$name]}"
}
lab_fetch() {
    local name=$1 a=$2 b=$3 rate=$4 file="$LAB_DIR/$2/run/$1/file" bytes sums
    bytes=$(stat -c %s "$file")
    if ! on "$b" curl -sS -f --max-time $((bytes / rate + 120)) --limit-rate "$rate" -o "/run/$name" "http://$(lab_address "$a"):${LAB_PORT[$name]}/file" 2>"$LAB_OUT/$name.curl"; then
        step "$name: $(cat "$LAB_OUT/$name.curl")"
        return 1
    fi
    sums=$(sha256sum <"$file" && sha256sum <"$LAB_DIR/$b/run/$name")
    [[ $(sort -u <<<"$sums" | wc -l) -eq 1 ]] || return 1
    step "$name: $bytes bytes by one TCP connection, SHA-256 equal"
}

# lab_recovers NAME A B TARGET_MS — measures from now until frames pass both ways. Timing is reported against the target
# and fails only beyond three times as much, so that a busy machine is no failure.
lab_recovers() {
    local name=$1 a=$2 b=$3 target=$4 took
    took=$("$LAB_TOOLS/oracle" recover --rate 200 --deadline 60 --a "$LAB-$a:${LAB_DEVICE:-smesh0}" --b "$LAB-$b:${LAB_DEVICE:-smesh0}" |
        jq -r '.both_ms // "never"')
    [[ $took != never ]] || lab_fail "$name: no frames both ways within 60 s"
    lab_measure "$name" "$took" ms
    [[ $took -le $((3 * target)) ]] || lab_fail "$name: took $took ms, the target is $target ms"
}

# lab_frames HOST COUNT FRAME… — puts a frame of frame.py into the host's tunnel, so often, five milliseconds apart.
lab_frames() {
    local host=$1 count=$2 bytes
    shift 2
    bytes=$(python3 "$(dirname "${BASH_SOURCE[0]}")/frame.py" "$@")
    on "$host" python3 -c '
import socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
for _ in range(int(sys.argv[3])):
    wire.send(bytes.fromhex(sys.argv[2]))
    time.sleep(0.005)' "${LAB_DEVICE:-smesh0}" "$bytes" "$count"
}
# lab_listen LABEL HOST FILTER — notes what comes out of the host's tunnel from now on and fits the filter (pcap-filter(7));
# lab_heard LABEL — how many frames that were so far.
lab_listen() {
    start "$1" "$2" tcpdump -i "${LAB_DEVICE:-smesh0}" -Q in -n -l --immediate-mode "$3"
    lab_wait 5 "tcpdump on $2" grep -q 'listening on' "$LAB_OUT/$1.log"
}
lab_heard() { wc -l <"$LAB_OUT/$1.out"; }
# lab_refused HOST PEER CAUSE — how many frames of the peer its switch did not let in for this cause.
lab_refused() { on "$1" shadowmesh status --json | jq -r ".peers[] | select(.name == \"$2\") | .rx_refused.$3 // 0"; }

# lab_expect WHAT COMMAND… — fails with WHAT unless the command succeeds.
lab_expect() {
    local what=$1
    shift
    "$@" >"$LAB_OUT/last-command.txt" 2>&1 || lab_fail "$what: $(tail -3 "$LAB_OUT/last-command.txt")"
    step "ok: $what"
}

# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────

lab_keep_evidence() {
    local host family
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
    if [[ $code -ne 0 ]]; then lab_keep_evidence; fi
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
