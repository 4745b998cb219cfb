# shellcheck shell=bash
# VpnCloud: a peer-to-peer VPN in Rust, here as a switch. Layer 2. It chooses the fastest cipher that both ends have.
contender vpncloud 2 "AES or ChaCha20" "tap, switch" vpncloud_up
from_crate vpncloud vpncloud 2.3.0 vpncloud

vpncloud_up() {
    local host there inside
    for host in a b; do
        there=$OUTER_B inside=$INNER_A
        if [[ $host == b ]]; then there=$OUTER_A inside=$INNER_B; fi
        # It asks the kernel by which address it would reach the internet, and ends where there is none.
        ip -n "$LAB-$host" route replace default via "$there" || return 1
        start "$host-vpncloud" "$host" "$BENCH_TOOLS/bin/vpncloud" --type tap --mode switch --device tap0 --listen 3210 --password bench --peer "$there:3210" \
            --ip "$inside/24" --no-port-forwarding
    done
    inner tap0 1400
}
