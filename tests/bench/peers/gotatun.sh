# shellcheck shell=bash
# gotatun: WireGuard in user space, by Mullvad, in Rust. Layer 3.
contender gotatun 3 ChaCha20-Poly1305 "MTU 1420" wireguard_up "$BENCH_TOOLS/bin/gotatun" --foreground --disable-drop-privileges
from_crate gotatun gotatun-cli 0.10.2 gotatun
from_debian gotatun wireguard-tools:wg
