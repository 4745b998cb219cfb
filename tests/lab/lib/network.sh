# shellcheck shell=bash
# Networks that hosts are moved to: second uplinks, one LAN for two, one NAT for many, IPv6. A part of lib.sh.

# lab_second_uplink HOST — another router on HOST's eth1, port-restricted, not used yet. lab_uplink HOST eth0|eth1 moves to it or
# back: the other link goes down, and the default route with it.
lab_second_uplink() {
    local name=$1 n=${LAB_NUMBER[$1]}
    lab_router "u$name" "198.51.100.4$n" "192.168.4$n" "$name" eth1
    lab_capture_on "$name" eth1
    lab_uplinks_do "$name"
}
lab_uplink() {
    local name=$1 n=${LAB_NUMBER[$1]} other=eth0 network="192.168.1${LAB_NUMBER[$1]}"
    if [[ $2 == eth0 ]]; then other=eth1; else network="192.168.4$n"; fi
    ip -n "$LAB-$name" link set "$other" down
    ip -n "$LAB-$name" link set "$2" up
    ip -n "$LAB-$name" address replace "$network.2/24" dev "$2"
    ip -n "$LAB-$name" route replace default via "$network.1"
}
# lab_uplinks_do HOST — asks both of its routers, before anything is measured, and leaves it on eth0.
lab_uplinks_do() {
    local device
    for device in eth1 eth0; do
        lab_uplink "$1" "$device"
        lab_does "$1" "$LAB_CONE" "the router on $device of $1"
    done
    step "both routers of $1 are port-restricted (checked)"
}
# lab_uplinks_do6 HOST — the same of their firewalls, where there is IPv6.
lab_uplinks_do6() {
    local device
    for device in eth1 eth0; do
        lab_uplink_family "$1" "$device" 6
        lab_does "$1" 'false null null null; false false null null' "the network on $device of $1, by IPv4"
        lab_does6 "$1" "the IPv6 firewall on $device of $1"
    done
    lab_uplink_family "$1" eth0 4
    step "both networks of $1 have IPv6 behind a firewall (checked)"
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
        # What passes from port to port is the switch's business and not the router's, whatever modules the machine has loaded.
        on "r$name" sh -c '[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables'
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
    lab_wait 2 "$other to reach $name on the LAN" on "$other" ping -c 1 -W 1 "192.168.1$n.2"
    step "$other is on the LAN of $name (checked)"
}

# lab_one_nat HOST OTHER hairpin|none — OTHER is behind HOST's router as well, on another LAN from which HOST's is out of reach. What one of
# them sends to the other's outside address comes back inside, or does not; which is checked. lab_own_router OTHER — it is behind its own again.
lab_one_nat() {
    local name=$1 other=$2 n=${LAB_NUMBER[$1]} m=${LAB_NUMBER[$2]}
    lab_lan "$name" "192.168.1$n.1" "192.168.1$n.2" 24
    ip -n "$LAB-$other" link delete eth0
    ip -n "$LAB-r$name" link add lan2 type veth peer name eth0 netns "$LAB-$other"
    ip -n "$LAB-r$name" address add "192.168.1$m.1/24" dev lan2
    ip -n "$LAB-r$name" link set lan2 up
    ip -n "$LAB-$other" link set eth0 up
    ip -n "$LAB-$other" address add "192.168.1$m.2/24" dev eth0
    ip -n "$LAB-$other" route replace default via "192.168.1$m.1"
    lab_between_lans "$name" "$other" "$3"
}
# lab_isolate HOST OTHER — those on HOST's LAN (lab_same_lan), OTHER among them, do not reach each other there, as guests of a hotel: only by the
# outside address of the router, which sends back inside what is for it. Checked.
lab_isolate() {
    local port
    for port in $(on "r$1" ls /sys/class/net/lan/brif); do ip -n "$LAB-r$1" link set "$port" type bridge_slave isolated on; done
    ip -n "$LAB-$1" neigh flush dev eth0
    ip -n "$LAB-$2" neigh flush dev eth0
    if on "$1" ping -c 1 -W 1 "$(lab_first_address "$2")" >/dev/null 2>&1; then lab_fail "$1 reaches $2 on the LAN"; fi
    lab_between_lans "$1" "$2" hairpin
}
lab_first_address() { ip -n "$LAB-$1" -4 -j address show dev eth0 | jq -r '.[0].addr_info[0].local'; }
# lab_between_lans HOST OTHER hairpin|none — the port-restricted router of both, with hairpin or without, and whether it is so.
lab_between_lans() {
    local name=$1 other=$2 hairpin=$3 wan="198.51.100.1${LAB_NUMBER[$1]}" back='' through='' expect=false found
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
    step "$other is behind the router of $name, and out of reach inside: hairpin $found (checked)"
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
    ip -n "$LAB-relay" address add 2001:db8:ff::3/64 dev eth0 nodad
    lab_routes6 relay eth0
}
lab_routes6() { # NAMESPACE DEVICE — to the networks behind all routers but its own, and behind second uplinks
    local n
    for ((n = 1; n <= LAB_MOST; n++)); do
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
    lab_does6 "$name" "the IPv6 firewall of $name"
    on "r$name" conntrack -F >/dev/null 2>&1 || true
}
lab_only6() {
    local name=$1
    on "r$name" nft flush ruleset
    lab_add6 "$name"
    ip -n "$LAB-r$name" -4 address flush dev lan
    ip -n "$LAB-$name" -4 address flush dev eth0
    lab_does "$name" 'false null null null; false false null null' "the network of $name, by IPv4"
    step "the network of $name is IPv6 only, behind a firewall (checked)"
}
lab_no6() {
    ip -n "$LAB-$1" -6 address flush dev eth0 scope global
    ip -n "$LAB-r$1" -6 address flush dev lan scope global
    ip -n "$LAB-r$1" -6 address flush dev wan scope global
}
