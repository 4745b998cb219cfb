# shellcheck shell=bash
# OpenVPN: tap, point to point, TLS with certificates that each knows by fingerprint. Layer 2.
contender openvpn 2 AES-256-GCM "tap" openvpn_up
from_debian openvpn openvpn:openvpn openssl:openssl

openvpn_up() {
    local host other there role
    for host in a b; do
        [[ ! -e $LAB_DIR/$host/run/openvpn.crt ]] || continue
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$host" \
            -keyout "$LAB_DIR/$host/run/openvpn.key" -out "$LAB_DIR/$host/run/openvpn.crt" 2>/dev/null || return 1
    done
    for host in a b; do
        other=b there=$OUTER_B role=(--tls-client)
        if [[ $host == b ]]; then other=a there=$OUTER_A role=(--tls-server --dh none); fi
        start "$host-openvpn" "$host" openvpn --dev tap0 --dev-type tap --proto udp --port 1194 --remote "$there" "${role[@]}" --cert /run/openvpn.crt --key /run/openvpn.key \
            --peer-fingerprint "$(openssl x509 -in "$LAB_DIR/$other/run/openvpn.crt" -noout -fingerprint -sha256 | cut -d= -f2)" \
            --data-ciphers AES-256-GCM --cipher AES-256-GCM --verb 1
    done
    inner tap0 1400
}
