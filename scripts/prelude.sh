# shellcheck shell=bash
# Sourced by every script here: strict mode, the repository root, how to speak, how to become root.
# A script builds as the caller and asks for root (sudo, unless it is root already) only for the part that needs it.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

# Tools that the scripts build for themselves live beside the build, never in the caller's home.
TOOLS="${CARGO_TARGET_DIR:-$ROOT/target}/tools"
PATH="$TOOLS/bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"
export PATH ROOT TOOLS

# Where the release binaries are; a package or another build can be tested by setting SM_BIN.
SM_BIN="${SM_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release}"
export SM_BIN

if [[ -t 1 ]]; then BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'; else BOLD='' RED='' GREEN='' PLAIN=''; fi

heading() { printf '\n%s== %s%s\n' "$BOLD" "$*" "$PLAIN"; }
say() { printf '%s\n' "$*"; }
good() { printf '%sok%s    %s\n' "$GREEN" "$PLAIN" "$*"; }
bad() { printf '%sFAIL%s  %s\n' "$RED" "$PLAIN" "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints nothing when nothing is missing.
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif have sudo; then
        sudo -- "$@"
    else
        die "root is needed for '$1', and there is no sudo: run this script as root"
    fi
}

# Goes on as root in the same script, with the settings that matter and nothing else of the environment.
re_exec_as_root() {
    [[ $(id -u) -eq 0 ]] && return
    say "The next part makes network namespaces and TAP devices: asking for root."
    local name keep=("PATH=$PATH" "SM_BIN=$SM_BIN" "SM_BUILT=1" "SM_OWNER=$(id -u):$(id -g)")
    for name in LAB_TOOLS LAB_SECONDS LAB_OUTAGE LAB_KEEP LAB_JOBS LAB_QUICK LAB_NO_LIMIT LAB_BESIDE LAB_MOVES LAB_TYPE LAB_REPEAT LAB_CELLS LAB_NODES LAB_EVERY LAB_UP SHADOWMESH_LOG WIREGUARD_GO BENCH_PEERS; do [[ -z ${!name+x} ]] || keep+=("$name=${!name}"); done
    as_root env "${keep[@]}" "$ROOT/scripts/${0##*/}" "$@"
    exit $?
}

# The binaries that the namespaces run, built once; skipped after the change to root and for packaged binaries.
build_release() {
    [[ -n ${SM_BUILT:-} ]] && return
    [[ $SM_BIN == "${CARGO_TARGET_DIR:-$ROOT/target}/release" ]] || return 0
    have cargo || die "cargo is not on PATH: install Rust (https://rustup.rs), then run this again"
    say "Building the release binaries (the first time takes a few minutes)."
    cargo build --release --locked --bins --workspace
}
