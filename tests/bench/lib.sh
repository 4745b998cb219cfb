# shellcheck shell=bash
# What is measured, by name, and where: contenders, what each needs, two hosts on one link. A part of scripts/bench.
#
# A contender is a way from host a to host b. The files in peers/ name them, a product a file, with a function that brings one up; what
# that starts and what devices it makes, `contender_down` takes away again. Nothing here ends the run because one of them does not work: it is left out, and
# the report says so.
#
#     a 192.168.77.1 ── one veth, MTU 1500 ── 192.168.77.2 b
#       192.168.78.2 ── 192.168.78.1 relay 192.168.79.1 ── 192.168.79.2           (the relay is 192.168.80.1; it forwards nothing by itself)

BENCH_TOOLS="${CARGO_TARGET_DIR:-$ROOT/target}/bench-tools"
# Addresses in a tunnel, where the contender gives none of its own. One that does sets TUNNEL_B.
INNER_A=10.9.0.1 INNER_B=10.9.0.2
OUTER_A=192.168.77.1 OUTER_B=192.168.77.2
RELAY_AT=192.168.80.1

CONTENDERS=() # in order
declare -A CONTENDER_LAYER=() CONTENDER_CIPHER=() CONTENDER_ABOUT=() CONTENDER_UP=() CONTENDER_CRATE=() CONTENDER_PACKAGE=()

# contender NAME LAYER CIPHER ABOUT UP… — one more; UP is a function and its arguments, which brings it up on both hosts and fails where it cannot.
contender() {
    # What is only told of them is read in compare.sh.
    # shellcheck disable=SC2034
    CONTENDER_LAYER[$1]=$2 CONTENDER_CIPHER[$1]=$3 CONTENDER_ABOUT[$1]=$4
    CONTENDERS+=("$1")
    CONTENDER_UP[$1]=${*:5}
}
# from_crate NAME CRATE VERSION PROGRAM — what a contender needs from crates.io. from_debian NAME PACKAGE:PROGRAM… — from Debian.
from_crate() { CONTENDER_CRATE[$1]="${*:2}"; }
from_debian() { CONTENDER_PACKAGE[$1]="${*:2}"; }

# The product first, then what there is without one, then the others.
for file in tests/bench/peers/{shadowmesh,veth,bare,boringtun,gotatun,wireguard-go,vpncloud,tinc,n2n,fastd,openvpn}.sh ${BENCH_PEERS:+"$BENCH_PEERS"/*.sh}; do
    # shellcheck source=/dev/null
    . "$file"
done

# ── what they need ──────────────────────────────────────────────────────────────────────────────────────────────────

# As the caller: installs what is missing for these contenders. What cannot be had is said, and is no failure.
contenders_install() {
    local name pair packages=() crate version program
    for name in "$@"; do
        for pair in ${CONTENDER_PACKAGE[$name]:-}; do have "${pair##*:}" || packages+=("${pair%%:*}"); done
        [[ -n ${CONTENDER_CRATE[$name]:-} ]] || continue
        read -r crate version program <<<"${CONTENDER_CRATE[$name]}"
        if [[ ! -x $BENCH_TOOLS/bin/$program ]]; then
            say "Installing $crate $version into $BENCH_TOOLS."
            cargo install --locked --quiet --root "$BENCH_TOOLS" --version "=$version" "$crate" || say "$crate $version could not be installed."
        fi
    done
    [[ ${#packages[@]} -gt 0 ]] || return 0
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    have apt-get || return 0
    say "Installing with apt-get: ${packages[*]}"
    as_root apt-get update -qq || return 0
    for name in "${packages[@]}"; do
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$name" >/dev/null || say "$name could not be installed."
    done
}
# contender_lacks NAME — why it cannot be brought up here; nothing when all it needs is there.
contender_lacks() {
    local pair crate version program
    if [[ -n ${CONTENDER_CRATE[$1]:-} ]]; then
        read -r crate version program <<<"${CONTENDER_CRATE[$1]}"
        [[ -x $BENCH_TOOLS/bin/$program ]] || echo "$program (crate $crate $version) is not there"
    fi
    for pair in ${CONTENDER_PACKAGE[$1]:-}; do have "${pair##*:}" || echo "${pair##*:} (Debian package ${pair%%:*}) is not there"; done
}
# The version of what it runs.
contender_version() {
    local crate=${CONTENDER_CRATE[$1]:-} package=${CONTENDER_PACKAGE[$1]:-}
    case $1 in
    shadowmesh* | bare*) git -c safe.directory="$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown ;;
    wireguard-go) if [[ -n ${WIREGUARD_GO:-} ]]; then "$WIREGUARD_GO" --version 2>/dev/null | sed -n '1s/^wireguard-go v//p'; else dpkg-query -W -f '${Version}' wireguard-go 2>/dev/null || true; fi ;;
    *) if [[ -n $crate ]]; then cut -d' ' -f2 <<<"$crate"; elif [[ -n $package ]]; then dpkg-query -W -f '${Version}' "${package%%:*}" 2>/dev/null || true; fi ;;
    esac
}

# ── the hosts ───────────────────────────────────────────────────────────────────────────────────────────────────────

# After tests/lab/lib.sh, as root.
bench_hosts() {
    local host
    for host in a b relay; do lab_namespace "$host"; done
    bench_link a eth0 "$OUTER_A" b eth0 "$OUTER_B"
    bench_link a eth1 192.168.78.2 relay eth1 192.168.78.1
    bench_link b eth1 192.168.79.2 relay eth2 192.168.79.1
    ip -n "$LAB-relay" address add "$RELAY_AT/32" dev lo
    ip -n "$LAB-a" route add "$RELAY_AT" via 192.168.78.1
    ip -n "$LAB-b" route add "$RELAY_AT" via 192.168.79.1
}
bench_link() {
    ip link add name "$2" netns "$LAB-$1" type veth peer name "$5" netns "$LAB-$4"
    ip -n "$LAB-$1" address add "$3/24" dev "$2"
    ip -n "$LAB-$4" address add "$6/24" dev "$5"
    ip -n "$LAB-$1" link set "$2" up
    ip -n "$LAB-$4" link set "$5" up
}

# soon SECONDS COMMAND… — asks again and again until COMMAND succeeds; fails when it has not by then.
soon() {
    local deadline=$(($(lab_now_ms) + $1 * 1000))
    shift
    until "$@" >/dev/null 2>&1; do
        [[ $(lab_now_ms) -lt $deadline ]] || return 1
        sleep 0.05
    done
}

# contender_up NAME — brings it up; b is at TUNNEL_B then, and answers. Processes of a side have labels that begin with it: a-…, b-…, relay-….
contender_up() {
    local up
    read -r -a up <<<"${CONTENDER_UP[$1]}"
    TUNNEL_B=$INNER_B
    rm -f "$LAB_OUT"/{a,b,relay}-*.{out,log}
    "${up[@]}" || return 1
    soon 15 on a ping -c 1 -W 1 "$TUNNEL_B"
}
# Ends what it started and removes what devices it made.
contender_down() {
    local label host device deadline
    for label in "${!LAB_PID[@]}"; do kill "${LAB_PID[$label]}" 2>/dev/null || true; done
    deadline=$(($(lab_now_ms) + 5000))
    for label in "${!LAB_PID[@]}"; do
        while running "$label" && [[ $(lab_now_ms) -lt $deadline ]]; do sleep 0.02; done
        running "$label" && kill -KILL "${LAB_PID[$label]}" 2>/dev/null
        unset "LAB_PID[$label]"
    done
    for host in a b; do
        while read -r device; do ip -n "$LAB-$host" link delete "$device" 2>/dev/null || true; done < <(
            ip -n "$LAB-$host" -json link | jq -r '.[].ifname | select(test("^(lo|eth[01])$") | not)'
        )
        ip -n "$LAB-$host" route delete default 2>/dev/null || true
        rm -rf "$LAB_DIR/$host/run/wireguard"
    done
}
# inner DEVICE MTU — the device of each side, as soon as it is there, with the address that it has inside.
inner() {
    local host address
    for host in a b; do
        soon 10 ip -n "$LAB-$host" link show "$1" || return 1
        address=$INNER_A && [[ $host == a ]] || address=$INNER_B
        ip -n "$LAB-$host" address replace "$address/24" dev "$1" && ip -n "$LAB-$host" link set "$1" mtu "$2" up || return 1
    done
}
