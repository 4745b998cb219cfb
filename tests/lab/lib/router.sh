# shellcheck shell=bash
# Routers: what they do to packets, and whether they do it. A part of lib.sh.

# lab_nat HOST TYPE — what the host's router does; the type is checked before it is believed.
lab_nat() {
    local name=$1 type=$2 n=${LAB_NUMBER[$1]} wan="198.51.100.1${LAB_NUMBER[$1]}" lan="192.168.1${LAB_LAN[$1]:-${LAB_NUMBER[$1]}}"
    local host="$lan.2"
    local established='ct state established,related accept' out='iifname "lan" accept' nat='' forward='' sets='' expect
    case $type in
    open | firewall) host="203.0.113.$((16 * n + 2))" && lab_lan "$name" "203.0.113.$((16 * n + 1))" "$host" 28 ;;
    *) lab_lan "$name" "$lan.1" "$host" 24 ;;
    esac
    local everything_in="iifname \"wan\" dnat ip to $host" everything_out="oifname \"wan\" snat ip to $wan"
    # What it must be found to do: to UDP, and to TCP (lab_does).
    local cone="true endpoint-independent address-and-port-dependent true" tcp="true true endpoint-independent address-and-port-dependent"
    case $type in
    open)
        forward='accept'
        expect='true endpoint-independent endpoint-independent true; true true endpoint-independent endpoint-independent'
        ;;
    firewall)
        forward="$established; $out"
        expect="$cone; $tcp"
        ;;
    full-cone)
        nat="$everything_out" sets="$everything_in"
        forward='accept'
        expect='true endpoint-independent endpoint-independent true; true true endpoint-independent endpoint-independent'
        ;;
    address-restricted)
        nat="$everything_out" sets="$everything_in"
        # `add` would leave the time of an entry as it is, and who is talked to all the time would be forgotten for a packet each two minutes.
        forward='iifname "lan" update @talked_to { ip daddr } accept; iifname "wan" ip saddr @talked_to accept'
        expect='true endpoint-independent address-dependent true; true true endpoint-independent address-dependent'
        ;;
    port-restricted)
        nat='oifname "wan" masquerade'
        forward="$established; $out"
        expect="$cone; $tcp"
        ;;
    port-shifting)
        nat="oifname \"wan\" meta l4proto { tcp, udp } snat ip to $wan:61000-65000; oifname \"wan\" masquerade"
        forward="$established; $out"
        expect="${cone% *} false; $tcp"
        ;;
    symmetric)
        nat='oifname "wan" masquerade fully-random'
        forward="$established; $out"
        # The outside port is any.
        expect='true endpoint-dependent address-and-port-dependent *; true true endpoint-dependent address-and-port-dependent'
        ;;
    udp-blocked)
        nat='oifname "wan" masquerade'
        forward="meta l4proto udp drop; $established; $out"
        expect="false null null null; $tcp"
        ;;
    relay-only)
        nat='oifname "wan" masquerade'
        forward="$established; iifname \"lan\" ip daddr $RELAY_ADDRESSES meta l4proto tcp accept"
        expect="false null null null; $tcp"
        ;;
    tcp-443)
        nat='oifname "wan" masquerade'
        forward="$established; iifname \"lan\" tcp dport 443 accept"
        expect='false null null null; true false null null'
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
    lab_does "$name" "$expect" "the $type router of $name"
    if [[ $type == relay-only ]]; then
        # Nothing goes to an address that is not the relay's.
        LAB_OUTSIDE=net lab_does "$name" 'false null null null; false false null null' "the $type router of $name" 198.51.100.9 198.51.100.9
    fi
    on "r$name" conntrack -F >/dev/null 2>&1 || true
    step "router of $name: $type (checked)"
}
# lab_does HOST EXPECT WHAT [ADDRESS ADDRESS] — asks what is done to HOST's packets on their way to two addresses of the relay, and fails where it is
# something else; of $LAB_OUTSIDE, if that is set. EXPECT is a pattern of «UDP mapping filtering port-kept; TCP-to-443 TCP-to-others mapping filtering».
lab_does() {
    local name=$1 expect=$2 what=$3 found
    shift 3
    [[ $# -eq 2 ]] || set -- "$RELAY_ADDRESS" 198.51.100.3
    # What was laid a moment ago may not know its neighbours yet: an IPv6 solicitation that is lost is repeated after a second (RFC 4861 §10).
    for _ in 1 2 3 4 5; do
        found=$("$LAB_TOOLS/natcheck" --inside "$LAB-$name" --outside "$LAB-${LAB_OUTSIDE:-relay}" --addresses "$@" |
            jq -r '"\(.udp) \(.mapping) \(.filtering) \(.port_kept); \(.tcp | "\(.to_443) \(.to_others) \(.mapping) \(.filtering)")"')
        # shellcheck disable=SC2053
        [[ $found != $expect ]] || return 0
    done
    lab_fail "$what is none: it does «$found», not «$expect»"
}
# What a port-restricted router does, and any that keeps one port for all behind a filter that looks at ports; and that by IPv6.
LAB_CONE='true endpoint-independent address-and-port-dependent *; true true endpoint-independent address-and-port-dependent'
lab_does6() { lab_does "$1" "$LAB_CONE" "$2" 2001:db8:ff::2 2001:db8:ff::3; }

# lab_router NAME ADDRESS LAN HOST DEVICE — one more port-restricted router, at ADDRESS on the internet and LAN.1 before DEVICE of HOST.
lab_router() {
    local router=$1 address=$2 lan=$3 host=$4 device=$5
    lab_namespace "$router"
    lab_attach "$router" wan "$address"
    ip -n "$LAB-$router" link add lan type veth peer name "$device" netns "$LAB-$host"
    ip -n "$LAB-$router" link set lan up
    ip -n "$LAB-$router" address add "$lan.1/24" dev lan
    on "$router" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    lab_restricted "$router"
}
# lab_restricted ROUTER — makes a port-restricted one of it, from lan to wan.
lab_restricted() {
    on "$1" nft -f - <<RULES
table ip lab {
    chain postrouting { type nat hook postrouting priority 100; oifname "wan" masquerade; }
    chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; }
    chain input { type filter hook input priority 0; iifname "wan" drop; }
}
RULES
}

# lab_carrier HOST — puts the router of a carrier, port-restricted as well, between HOST's own and the internet (RFC 6598).
lab_carrier() {
    local name=$1 n=${LAB_NUMBER[$1]} faults
    faults=$(lab_faults "$1")
    if [[ $faults != none ]]; then lab_unwire "$name"; fi
    ip -n "$LAB-net" link delete "p-r$name"
    lab_router "c$name" "198.51.100.2$n" "100.64.$n" "r$name" wan
    ip -n "$LAB-r$name" address add "100.64.$n.2/24" dev wan
    ip -n "$LAB-r$name" link set wan up
    ip -n "$LAB-r$name" route add default via "100.64.$n.1"
    if [[ $faults != none ]]; then lab_wire "$name" "$faults"; fi
    # A kernel may take a second until it sends on a link that is new.
    lab_wait 5 "$name to reach the relay through both" on "$name" ping -c 1 -W 1 "$RELAY_ADDRESS"
    lab_does "$name" "$LAB_CONE" "the port-restricted pair of routers of $name"
    step "a carrier's router before that of $name (checked)"
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

# lab_block_tcp HOST [VERDICT] / lab_allow_tcp HOST — its router drops all TCP but that with the relay (or says VERDICT to a SYN), and lets it
# through again. lab_syns_dropped HOST N — whether more than N SYNs met that.
lab_block_tcp() {
    on "r$1" nft -f - <<RULES
table ip hold_tcp {
    counter syns { }
    chain forward {
        type filter hook forward priority -5
        ip daddr $RELAY_ADDRESSES accept
        ip saddr $RELAY_ADDRESSES accept
        tcp flags & (syn | ack) == syn counter name syns ${2:-drop}
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

# lab_rebind HOST — its router forgets every mapping and gives other outside ports from now on, one for all destinations (behind a
# port-restricted one). Not at random: the kernel would take another for each destination.
declare -A LAB_REBINDS=()
lab_rebind() {
    local name=$1 wan="198.51.100.1${LAB_NUMBER[$1]}" first
    LAB_REBINDS[$name]=$((${LAB_REBINDS[$name]:-0} + 1))
    first=$((20000 + 400 * LAB_REBINDS[$name]))
    on "r$name" nft -f - <<RULES
flush chain ip lab postrouting
add rule ip lab postrouting oifname "wan" meta l4proto udp snat to $wan:$first-$((first + 399))
add rule ip lab postrouting oifname "wan" masquerade
RULES
    # The relay's stream is not what this is about.
    on "r$name" conntrack -D -p udp >/dev/null 2>&1 || true
}
# lab_rebound HOST — asks whether the router is what it was before, with other ports. Not while something is measured.
lab_rebound() { lab_does "$1" "${LAB_CONE/\*/false}" "the router of $1 after a rebind"; }

# Nothing passes HOST's router until lab_unblock; both the host and the router keep their links and addresses.
lab_block() {
    on "r$1" nft 'table ip outage { chain forward { type filter hook forward priority -10; policy drop; }; chain output { type filter hook output priority -10; policy drop; }; }'
}
lab_unblock() { on "r$1" nft delete table ip outage; }
