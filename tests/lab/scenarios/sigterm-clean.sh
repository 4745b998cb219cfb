# shellcheck shell=bash
# After SIGTERM, `down` and the relay's end nothing is left behind: no device, address, route, rule, socket or process.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat

# Everything that a daemon could leave on a host. The neighbour table and counters are the kernel's own business.
traces() {
    on "$1" sh -c 'ip -o link; ip route show table all; ip -6 route show table all; ip rule; ip maddress
        nft list ruleset; ss -Hlnptu; ss -Hlnpx | grep -i shadow; ls -A /run' | sed 's/[0-9]*: *//; s/qdisc.*//; s/expires [0-9]*sec//' | sort
}
for host in a b relay; do lab_wait 5 "the addresses of $host" lab_addresses_settled "$host"; done
for host in a b relay; do traces "$host" >"$LAB_OUT/$host.before"; done
lab_network
lab_oracle frames a b --seconds 2

pid=${LAB_PID[a]}
began=$(lab_now_ms)
stop a TERM
lab_measure "SIGTERM to gone" "$(($(lab_now_ms) - began))" ms
lab_expect "down ends b" on b shadowmesh down
lab_wait 5 "b to end" stopped b
lab_expect "down again, with no daemon, is fine" on b shadowmesh down
stop relay TERM
for host in a b relay; do
    traces "$host" >"$LAB_OUT/$host.after"
    # A socket's directory may stay, the socket may not.
    diff <(grep -v '^shadowmesh$' "$LAB_OUT/$host.before") <(grep -v '^shadowmesh$' "$LAB_OUT/$host.after") >"$LAB_OUT/$host.diff" ||
        lab_fail "left behind on $host: $(grep '^[<>]' "$LAB_OUT/$host.diff" | head -5)"
    [[ -z $(find "$LAB_DIR/$host/run" -type s) ]] || lab_fail "a socket is left on $host"
done
[[ ! -e /proc/$pid ]] || lab_fail "the daemon of a is still there"
# A leaver leaves nothing to come back with.
lab_relay
lab_up a
lab_expect "leave" on a shadowmesh leave
lab_wait 5 "a to end" stopped a
if on a shadowmesh up >"$LAB_OUT/after-leave.out" 2>&1; then lab_fail "up after leave came up without an invite"; fi
step "after leave: $(tail -1 "$LAB_OUT/after-leave.out")"
