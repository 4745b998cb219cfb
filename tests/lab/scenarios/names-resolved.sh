# shellcheck shell=bash
# `up --names on` where a real systemd-resolved answers programs: names are found, no other is asked of us and none of ours of others, nothing is left.
# long: fetches a Debian with debootstrap (LAB_ROOTS=DIR takes one that is there)
. "$(dirname "$0")/../lib.sh"
lab_debian resolved systemd-resolved dbus
lab_topology relay_two_nat
lab_relay

# The name server of the internet, which knows one name and notes whatever it is asked.
start dns net dnsmasq --keep-in-foreground --no-daemon --no-resolv --no-hosts --bind-interfaces --listen-address=198.51.100.9 --log-queries \
    --address=/www.example.com/203.0.113.80 --local=/internal/
# shellcheck disable=SC2016
lab_fresh a resolved '
    install -m 0755 "$bin/shadowmesh" "$root/usr/local/bin/"
    mkdir -p "$root/etc/systemd/resolved.conf.d"
    printf "[Resolve]\nDNS=198.51.100.9\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\nCache=no\n" >"$root/etc/systemd/resolved.conf.d/lab.conf"
    printf "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\nWants=systemd-journald.service dbus.service systemd-resolved.service\n" \
        >"$root/etc/systemd/system/lab.target"' lab.target
evidence() {
    lab_inside a journalctl --no-pager >"$LAB_OUT/a.journal"
    lab_inside a resolvectl status >"$LAB_OUT/a.resolved"
}
inside() { lab_inside a "$@"; }
finds() { [[ $(inside getent ahostsv4 "$1" | awk '{ print $1; exit }') == "$2" ]]; }
does_not_find() { ! inside getent hosts "$1"; }
asked() { grep -qF "$1" "$LAB_OUT/dns.log"; }
names() { lab_status a ".names | ($1) or error"; }
lab_wait 10 "programs of a to find a name of the internet" finds www.example.com 203.0.113.80
lab_expect "by its name server" asked www.example.com
# The machine's name servers. (`resolvectl status` shows every server on the loopback interface among them, whosever it is.)
servers() { inside grep ^nameserver /run/systemd/resolve/resolv.conf; }
before=$(servers)

lab_expect "a network is made" inside shadowmesh network create office --relay "$RELAY_TICKET" --name a
lab_expect "up by hand" inside shadowmesh up --detach
lab_up b "$(inside shadowmesh invite --uses any 2>/dev/null)" --name b
lab_wait 20 "a to be connected to b" lab_connected a 1
b_address=$(lab_address b)
lab_expect "off by default" does_not_find b.office.internal
lab_expect "so others are asked for it" asked b.office.internal
lab_expect "down" inside shadowmesh down

: >"$LAB_OUT/dns.log"
lab_expect "up with names" inside shadowmesh up --detach --names on
lab_wait 20 "a to be connected to b" lab_connected a 1
lab_wait 10 "the way to be systemd-resolved" names '.way == "resolved" and .domain == "office.internal" and .error == null'
lab_wait 5 "b by its whole name" finds b.office.internal "$b_address"
lab_expect "b by its short one" finds b "$b_address"
lab_expect "ping b" inside ping -c 1 -W 3 b
lab_expect "resolvectl query" inside resolvectl query b.office.internal
lab_expect "by IPv6 as well" inside resolvectl query --type AAAA b.office.internal
lab_expect "a name that nobody has is not found" does_not_find nobody.office.internal
lab_expect "names of the internet are found as before" finds www.example.com 203.0.113.80
! asked internal || lab_fail "another name server is asked for our names: $(grep internal "$LAB_OUT/dns.log" | head -1)"
[[ $(servers) == "$before" ]] || lab_fail "the machine has other name servers now: $(servers)"
lab_expect "the hosts file is not touched" sh -c "! nsenter --target ${LAB_HOLDER[a]} --all -- grep -q internal /etc/hosts"

lab_expect "b is renamed" inside shadowmesh rename b bob
lab_wait 10 "bob" finds bob.office.internal "$b_address"
lab_wait 10 "and b no more" does_not_find b.office.internal

step "systemd-resolved is restarted"
lab_expect "restart" inside systemctl restart systemd-resolved
lab_wait 15 "bob again" finds bob.office.internal "$b_address"

step "the daemon is killed"
inside pkill -KILL -x shadowmesh
gone() { ! inside ip link show smesh0; }
lab_wait 5 "its device to go" gone
lab_expect "nothing of it is left" does_not_find bob.office.internal
lab_expect "names of the internet are found" finds www.example.com 203.0.113.80
lab_expect "up again" inside shadowmesh up --detach
lab_wait 20 "bob once more" finds bob.office.internal "$b_address"
lab_oracle served a b --seconds "$(quick 2 5)"
lab_expect "down" inside shadowmesh down
lab_expect "all is as it was" does_not_find bob.office.internal
[[ $(servers) == "$before" ]] || lab_fail "the machine has other name servers now: $(servers)"
