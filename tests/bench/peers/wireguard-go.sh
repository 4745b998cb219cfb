# shellcheck shell=bash
# wireguard-go: WireGuard in user space, by its author, in Go. Layer 3. Debian's may be years older than the newest: WIREGUARD_GO=PROGRAM takes another.
contender wireguard-go 3 ChaCha20-Poly1305 "MTU 1420" wireguard_up env WG_PROCESS_FOREGROUND=1 LOG_LEVEL=error "${WIREGUARD_GO:-wireguard-go}"
from_debian wireguard-go "wireguard-go:${WIREGUARD_GO:-wireguard-go}" wireguard-tools:wg
