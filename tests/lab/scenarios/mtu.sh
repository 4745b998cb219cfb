# shellcheck shell=bash
# A link of 1280 bytes, and one that becomes so while in use, with not a word of it by ICMP: frames of 1518 bytes pass, directly by IPv4 and
# IPv6 and by the relay's datagrams, from three seconds after the change on without a loss.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_internet6
lab_wire a mtu=1280
lab_relay --listen '[::]:8443'
lab_up a --relay "$RELAY_TICKET" --mtu 1500
lab_invite a
lab_up b "$INVITE" --mtu 1500
lab_all_connected 20
seconds=$(quick 3 5)

mtu_is() { lab_status "$1" "(.peers[0].path.mtu >= $2 and .peers[0].path.mtu <= $3) or error(.peers[0].path | tostring)"; }
both_on() { for host in a b; do lab_wait 30 "$host to be on $1" lab_path "$host" "$1"; done; }
mtu_is_soon() { for host in a b; do lab_wait 10 "$host to know a packet size from $1 to $2" mtu_is "$host" "$1" "$2"; done; }
# Data goes by what carries such packets, or by a stream, which carries any.
carried() { lab_path "$1" relay-ws || mtu_is "$@"; }
all_well() { # KIND
    for host in a b; do
        lab_expect "$host is on $1" lab_path "$host" "$1"
        lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
    done
}

# narrow NAME KIND REMOTE — the link is narrow when the two find each other, at an address that begins so.
narrow() {
    both_on "$2"
    lab_expect "$1: by the address that is meant" lab_status a "(.peers[0].path.remote | startswith(\"$3\")) or error(.peers[0].path | tostring)"
    mtu_is_soon 1240 1280
    # With a VLAN tag the largest has 1518 bytes.
    lab_oracle "$1-narrow" a b --seconds "$seconds" --vlan 5
    lab_expect "ordinary ping of full size, not to be fragmented" on a ping -M "do" -s 1472 -c 3 -i 0.2 "$(lab_address b)"
    all_well "$2"
}

# narrows NAME KIND — it is wide at first, for daemons that find each other anew, and narrow from one moment on, while frames of every size pass.
narrows() {
    local oracle changed host
    lab_wire_change a both ''
    lab_again
    both_on "$2"
    mtu_is_soon 1460 1500
    # Of those that are sent before anybody can know, three seconds' at most.
    lab_oracle "$1-narrowing" a b --seconds "$((seconds + 4))" --vlan 5 --max-lost 3000 --max-reordered 6000 --max-gap-ms 3000 &
    oracle=$!
    lab_frames_pass a 500
    changed=$(lab_now_ms)
    lab_wire_change a both mtu=1280
    for host in a b; do lab_wait 10 "$host to send what passes" carried "$host" 1240 1280; done
    lab_within "$1: narrow link to data that passes, both sides" "$(($(lab_now_ms) - changed))" 3000
    sleep "$((3000 - $(lab_now_ms) + changed))e-3"
    lab_oracle "$1-after-3-s" a b --seconds "$seconds" --vlan 5 --seed 2
    wait "$oracle" || lab_fail "$1: the link's narrowing was felt"
    lab_measure "$1: lost of those that were sent before" "$(jq '[.a_to_b, .b_to_a] | map(.lost) | add' "$LAB_OUT/$1-narrowing.json")" frames
    for host in a b; do lab_expect "$host is on $2" lab_path "$host" "$2"; done
}

narrow ipv4 direct-udp 198.51.100.12:
narrows ipv4 direct-udp

if [[ -n ${LAB_QUICK:-} ]]; then exit 0; fi
for host in a b; do lab_only6 "$host"; done
lab_again
narrow ipv6 direct-udp '[2001:db8:2:'
narrows ipv6 direct-udp

for host in a b; do
    lab_no6 "$host"
    lab_nat "$host" symmetric
done
lab_again
narrow relayed relay-udp ''
narrows relayed relay-udp
