# shellcheck shell=bash
# A host moves between networks with IPv4, IPv6 and both, in all nine ways, then its peer, then both at once: nothing is lost, and they are direct
# again at once.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_internet6
for host in a b; do lab_second_uplink "$host"; done
for host in a b; do lab_uplinks_do6 "$host"; done
lab_relay --listen '[::]:8443'
lab_up a --relay "$RELAY_TICKET"
lab_invite a
lab_up b "$INVITE"
lab_all_connected 20

declare -A device=([a]=eth0 [b]=eth0) before=([a]=4 [b]=4)
# moves_to HOST FAMILIES — by its other link.
moves_to() {
    if [[ ${device[$1]} == eth0 ]]; then device[$1]=eth1; else device[$1]=eth0; fi
    lab_uplink_family "$1" "${device[$1]}" "$2"
    before[$1]=$2
}
# comes_from HOST — how its addresses begin there, as a list in JSON; of two families either, whichever was quicker.
comes_from() {
    local n=${LAB_NUMBER[$1]} four six
    four="\"198.51.100.1$n:\"" six="\"[2001:db8:$n:\""
    if [[ ${device[$1]} == eth1 ]]; then four="\"198.51.100.4$n:\"" six="\"[2001:db8:4$n:\""; fi
    case "${before[$1]}" in
    4) echo "[$four]" ;;
    6) echo "[$six]" ;;
    dual) echo "[$four, $six]" ;;
    esac
}
sends_to() { # HOST STARTS — directly, to an address that begins so
    lab_status "$1" ".peers[0].path | (.kind == \"direct-udp\" and (.remote as \$at | any($2[]; . as \$start | \$at | startswith(\$start)))) or error(tostring)"
}
# moves WHO FAMILIES — those hosts move, under frames.
moves() {
    local who=$1 after=$2 name oracle began host other
    name="${who// /-and-}-from-${before[${who%% *}]}-to-$after"
    lab_oracle "$name" a b --seconds "$(quick 7 9)" --max-reordered 100000 --max-gap-ms 3000 &
    oracle=$!
    lab_frames_pass a 500
    for host in $who; do moves_to "$host" "$after"; done
    began=$(lab_now_ms)
    for host in $who; do
        other=a
        if [[ $host == a ]]; then other=b; fi
        lab_wait 15 "$other to send to $(comes_from "$host")" sends_to "$other" "$(comes_from "$host")"
    done
    lab_direct a b 15
    lab_within "another family, $who: direct again" "$(($(lab_now_ms) - began))" 5000
    wait "$oracle" || lab_fail "frames were lost: $name"
    lab_silence "longest silence, another family, $who" "$name" 1000
    for host in a b; do lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'; done
}
# Each word is where the next move begins: all nine changes. Who stays has both, but where both move.
nine=(4 6 6 dual dual 4 dual 6 4)
if [[ -n ${LAB_QUICK:-} ]]; then nine=(6 4); fi
for host in a b; do
    if [[ $host == a ]]; then other=b; else other=a; fi
    moves_to "$other" dual
    lab_direct a b 15
    for after in "${nine[@]}"; do moves "$host" "$after"; done
    [[ -z ${LAB_QUICK:-} ]] || exit 0
done
moves_to a 4
lab_direct a b 15
for after in "${nine[@]}"; do moves "a b" "$after"; done
