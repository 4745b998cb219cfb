# shellcheck shell=bash
# The superframe idea without a protocol (tests/perf/src/bare.rs): no handshake, no replay window, no acknowledgements, no second path, one peer.
contender bare-none 2 none "no protocol, no cipher" bare_up none
contender bare-chacha 2 ChaCha20-Poly1305 "no protocol" bare_up chacha
contender bare-aes 2 AES-256-GCM "no protocol" bare_up aes

bare_up() {
    start a-bare a "$LAB_TOOLS/bare" tap0 "$OUTER_B" "$1"
    start b-bare b "$LAB_TOOLS/bare" tap0 "$OUTER_A" "$1"
    inner tap0 1400
}
