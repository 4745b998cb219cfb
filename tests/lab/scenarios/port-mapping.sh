# shellcheck shell=bash
# A symmetric router that gives a port to who asks, by PCP, NAT-PMP and UPnP: the pair that could not go direct does, and the port is
# given back. With the switch off nobody asks.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_nat a symmetric

# miniupnpd maps no port to an address that is set aside for documentation, as those of this internet are: the router has another.
OUTSIDE=45.67.89.11
on ra ip address add "$OUTSIDE/32" dev wan
on rb ip route add "$OUTSIDE/32" via 198.51.100.11
on relay ip route add "$OUTSIDE/32" via 198.51.100.11

# miniupnpd on the router of a, with these lines in its configuration.
routes_ports() {
    on ra nft -f - <<'RULES'
insert rule ip lab forward ct status dnat accept
table inet miniupnpd {
    chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority -100; policy accept; jump prerouting_miniupnpd; }
    chain prerouting_miniupnpd { }
    chain postrouting { type nat hook postrouting priority 100; policy accept; jump postrouting_miniupnpd; }
    chain postrouting_miniupnpd { }
}
RULES
}
serves_ports() { # LABEL LINE…
    local label=$1
    shift
    printf '%s\n' ext_ifname=wan listening_ip=lan ext_ip="$OUTSIDE" port=0 system_uptime=yes \
        upnp_table_name=miniupnpd upnp_nat_table_name=miniupnpd upnp_forward_chain=miniupnpd \
        upnp_nat_chain=prerouting_miniupnpd upnp_nat_postrouting_chain=postrouting_miniupnpd \
        uuid=00000000-0000-0000-0000-000000000001 "$@" 'allow 1024-65535 0.0.0.0/0 1024-65535' >"$LAB_DIR/$label.conf"
    start "$label" ra miniupnpd -d -f "$LAB_DIR/$label.conf" -P "$LAB_DIR/$label.pid"
}
mappings() { on ra nft list chain inet miniupnpd prerouting_miniupnpd | grep -c dnat || true; }
mapped() { [[ $(mappings) -gt 0 ]]; }
unmapped() { [[ $(mappings) -eq 0 ]]; }
has_port() { on a shadowmesh netcheck --json | jq -e '.mapped_ports | length == 1'; }
# gets_port NAME SECONDS COMMAND… — COMMAND begins a; it gets a port, and the pair goes direct, under frames from the first that passes on.
gets_port() {
    local name=$1 seconds=$2 oracle host
    shift 2
    lab_oracle "$name" a b --from-first 30 --seconds "$seconds" &
    oracle=$!
    "$@"
    for host in a b; do lab_wait 10 "$host to be connected" lab_connected "$host" 1; done
    lab_stream "beside-$name" a b "$((seconds - 2))" "$((LAB_BESIDE * 125000))"
    lab_wait "$((10 + seconds))" "a to have a port" has_port
    lab_direct a b 10
    kill -0 "$oracle" 2>/dev/null || lab_fail "direct only when the frames were over"
    wait "$oracle" || lab_fail "frames were lost"
    lab_streamed "beside-$name"
}

routes_ports
serves_ports pcp enable_natpmp=yes enable_upnp=no
lab_wait 5 "the router's PCP" on ra sh -c 'ss -lun | grep -q :5351'
gets_port pcp "$(quick 4 6)" lab_network
lab_expect "the router forwards it" mapped
lab_expect "it was PCP" grep -q 'PCP MAP: added mapping UDP' "$LAB_OUT/pcp.log"
lab_expect "a leaves" on a shadowmesh down
lab_wait 5 "the port to be given back" unmapped
stop pcp

# A router that knows NAT-PMP alone: to a question of version 2 it answers that its version is 0 (RFC 6886 §3.5).
start version-0 ra python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5352))
while True: s.sendto(bytes([0, 128, 0, 1, 0, 0, 0, 1]), s.recvfrom(1100)[1])'
lab_wait 5 "the router's version 0" on ra sh -c 'ss -lun | grep -q :5352'
on ra nft insert rule ip lab prerouting iifname lan udp dport 5351 @th,64,8 2 redirect to :5352
serves_ports natpmp enable_natpmp=yes enable_upnp=no
lab_wait 5 "the router's NAT-PMP" on ra sh -c 'ss -lun | grep -q :5351'
gets_port natpmp "$(quick 5 7)" lab_up a
lab_expect "it was NAT-PMP" grep -q 'NAT-PMP port mapping request' "$LAB_OUT/natpmp.log"
lab_expect "and not PCP" sh -c "! grep -q 'PCP MAP' '$LAB_OUT/natpmp.log'"
lab_expect "a leaves" on a shadowmesh down
lab_wait 5 "the port to be given back" unmapped
stop natpmp

# Nobody asks.
serves_ports silent enable_natpmp=yes enable_upnp=yes
lab_wait 5 "the router's PCP" on ra sh -c 'ss -lun | grep -q :5351'
lab_up a --port-mapping off
for host in a b; do lab_wait 10 "$host to be on relay-udp" lab_path "$host" relay-udp; done
lab_expect "no port was asked for" unmapped
# `doctor` says why the relay carries what is for b, and the line that ends it.
relayed() { (on a shadowmesh doctor --json 2>/dev/null || true) | jq -r '[.findings[] | select(.id == "relayed")][0].line // empty'; }
is_relayed() { [[ -n $(relayed) ]]; }
is_not_relayed() { [[ -z $(relayed) ]]; }
lab_wait 10 "doctor to say that the router is why" is_relayed
line=$(relayed)
step "typed: $line"
on a sh -c "$line" >>"$LAB_OUT/typed.log" 2>&1 3>&- </dev/null || lab_fail "what doctor says to type fails: $(tail -2 "$LAB_OUT/typed.log")"
lab_wait 15 "a to have a port" has_port
lab_direct a b 10
lab_wait 10 "doctor to be clean of it" is_not_relayed
lab_expect "a leaves" on a shadowmesh down
lab_wait 5 "the port to be given back" unmapped
stop silent

# UPnP alone.
serves_ports upnp enable_natpmp=no enable_upnp=yes
lab_wait 5 "the router's UPnP" on ra sh -c 'ss -lun | grep -q :1900'
gets_port upnp "$(quick 10 12)" lab_up a --port-mapping on
lab_expect "a leaves" on a shadowmesh down
lab_wait 5 "the port to be given back" unmapped
