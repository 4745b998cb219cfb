# shellcheck shell=bash
# boringtun: WireGuard in user space, by Cloudflare, in Rust. Layer 3. Of its four threads, which are its default, two cores are too few: with one it is
# faster there.
contender boringtun 3 ChaCha20-Poly1305 "MTU 1420" wireguard_up "$BENCH_TOOLS/bin/boringtun-cli" --foreground --disable-drop-privileges
contender boringtun-1 3 ChaCha20-Poly1305 "MTU 1420, one thread" wireguard_up "$BENCH_TOOLS/bin/boringtun-cli" --foreground --disable-drop-privileges --threads 1
for name in boringtun boringtun-1; do
    from_crate "$name" boringtun-cli 0.7.1 boringtun-cli
    from_debian "$name" wireguard-tools:wg
done

# wireguard_up PROGRAM… — any WireGuard that runs in the foreground and is told by `wg`; two hosts, new keys.
wireguard_up() {
    local host other keys=()
    keys=("$(wg genkey)" "$(wg genkey)") || return 1
    for host in a b; do
        mkdir -p "$LAB_DIR/$host/run/wireguard"
        start "$host-wireguard" "$host" "$@" wg0
        soon 10 test -S "$LAB_DIR/$host/run/wireguard/wg0.sock" || return 1
    done
    printf '%s\n' "${keys[0]}" >"$LAB_DIR/a/run/key"
    printf '%s\n' "${keys[1]}" >"$LAB_DIR/b/run/key"
    for host in a b; do
        other=$(wg pubkey <<<"${keys[1]}") && [[ $host == a ]] || other=$(wg pubkey <<<"${keys[0]}")
        local there=$OUTER_B inside=$INNER_B
        if [[ $host == b ]]; then there=$OUTER_A inside=$INNER_A; fi
        on "$host" wg set wg0 listen-port 51820 private-key /run/key peer "$other" allowed-ips "$inside/32" endpoint "$there:51820" || return 1
    done
    inner wg0 1420
}
