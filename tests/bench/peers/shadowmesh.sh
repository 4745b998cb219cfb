# shellcheck shell=bash
# The product: each cipher, each kind of path, and an MTU at which a full frame is two packets.
for cipher in chacha aes; do
    name=ChaCha20-Poly1305 && [[ $cipher == chacha ]] || name=AES-256-GCM
    contender "shadowmesh-$cipher" 2 "$name" "direct-udp, MTU 1400" shadowmesh_up "$cipher" direct-udp 1400
    contender "shadowmesh-$cipher-1500" 2 "$name" "direct-udp, MTU 1500, fragmented" shadowmesh_up "$cipher" direct-udp 1500
    contender "shadowmesh-$cipher-no-ring" 2 "$name" "direct-udp, MTU 1400, without ring and acknowledgements" shadowmesh_up "$cipher" direct-udp 1400 --ring none
    contender "shadowmesh-$cipher-queues" 2 "$name" "direct-udp, MTU 1400, two queues" shadowmesh_up "$cipher" direct-udp 1400 --queues 2
    for kind in direct-tcp relay-udp relay-ws; do
        contender "shadowmesh-$cipher-$kind" 2 "$name" "$kind, MTU 1400" shadowmesh_up "$cipher" "$kind" 1400
    done
done

# shadowmesh_up CIPHER PATH MTU [OPTION …] — a new network each time, its relay on a host of its own.
shadowmesh_up() {
    local cipher=$1 kind=$2 mtu=$3 host ticket invite
    shift 3
    for host in a b relay; do rm -rf "$LAB_DIR/$host"/{run/shadowmesh*,var-lib/shadowmesh*}; done
    start relay-relay relay shadowmesh-relay --public "$RELAY_AT" || return 1
    soon 10 grep -q '^relay ticket: smr1' "$LAB_OUT/relay-relay.out" || return 1
    ticket=$(sed -n 's/^relay ticket: //p' "$LAB_OUT/relay-relay.out" | head -1)
    start a-shadowmesh a shadowmesh up --relay "$ticket" --cipher "$cipher" --mtu "$mtu" "$@"
    soon 10 grep -q '^join with: sudo shadowmesh up smi1' "$LAB_OUT/a-shadowmesh.out" || return 1
    invite=$(sed -n 's/^join with: sudo shadowmesh up //p' "$LAB_OUT/a-shadowmesh.out" | head -1)
    start b-shadowmesh b shadowmesh up "$invite" --cipher "$cipher" --mtu "$mtu" "$@"
    soon 15 lab_connected a 1 && soon 15 lab_connected b 1 || return 1
    # Who is not direct by then has not found the way; the other kinds are asked for, and last until the daemon ends.
    soon 10 lab_path a direct-udp && soon 10 lab_path b direct-udp || return 1
    if [[ $kind != direct-udp ]]; then on a shadowmesh path b --use "$kind" >/dev/null || return 1; fi
    # shellcheck disable=SC2034 # read by who called
    shadowmesh_is_on "$kind" && TUNNEL_B=$(lab_address b)
}
# Whether both ends still take this path: figures of another one are not its own.
shadowmesh_is_on() { lab_path a "$1" >/dev/null && lab_path b "$1" >/dev/null; }
