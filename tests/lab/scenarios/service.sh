# shellcheck shell=bash
# A machine with a systemd of its own: `install`, a service that hangs and is restarted, drop-ins, nothing left by `uninstall --purge`; the same by packages.
# long: a machine of its own, and packages
. "$(dirname "$0")/../lib.sh"

# The machine is this one's files under a layer that is thrown away, in namespaces of its own, and the real systemd as process 1. No unit of this machine runs
# there but its journal.
[[ -x /lib/systemd/systemd ]] || {
    step "skipped: there is no systemd on this machine"
    exit 0
}
lab_namespace machine
LAB_DEBIAN[this]=/
# shellcheck disable=SC2016
lab_fresh machine this '
    rm -rf "$root"/etc/systemd/system/* "$root"/etc/systemd/journald.conf.d "$root"/var/lib/shadowmesh* "$root"/var/lib/private/shadowmesh* "$root"/etc/shadowmesh
    rm -f "$root"/usr/local/bin/shadowmesh*
    sed -i /^shadowmesh:/d "$root/etc/passwd" "$root/etc/group"
    # In images of containers it forbids packages to start anything.
    rm -f "$root/usr/sbin/policy-rc.d"
    install -m 0755 "$bin/shadowmesh" "$bin/shadowmesh-relay" "$root/usr/bin/"
    # By hand, as deploy/README.md says.
    install -m 0644 deploy/systemd/shadowmesh-relay.service "$root/etc/systemd/system/"
    install -D -m 0644 -t "$root/etc/shadowmesh" deploy/etc/shadowmesh/relay.toml
    printf "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\nWants=systemd-journald.service\n" >"$root/etc/systemd/system/lab.target"' lab.target
inside() { lab_inside machine "$@"; }
evidence() {
    local unit
    for unit in shadowmesh shadowmesh-relay; do inside journalctl --no-pager --output cat --unit "$unit" >"$LAB_OUT/$unit.log"; done
}

property() { inside systemctl show --value --property "$2" "$1"; }
# is UNIT PROPERTY VALUE
is() { [[ $(property "$1" "$2") == "$3" ]]; }
answers() { inside shadowmesh status --json | jq -e '.relays[0].state == "connected"'; }
# of_process UNIT FIELD — of /proc/PID/status.
of_process() { inside sed -n "s/^$2:[[:space:]]*//p" "/proc/$(property "$1" MainPID)/status"; }
# refuses WORDS COMMAND… — it fails, and says so in these words.
refuses() {
    local words=$1 said
    shift
    if said=$(inside "$@" 2>&1); then lab_fail "$* did not fail"; fi
    [[ $said == *"$words"* ]] || lab_fail "$* says: $said"
    step "refused: ${said##*$'\n'}"
}
# exposed UNIT — by what systemd says of it as it runs here; more than 3.0 fails.
exposed() {
    local said
    said=$(inside systemd-analyze security --no-pager --threshold=30 "$1") || lab_fail "$1 is exposed: ${said##*$'\n'}"
    lab_measure "exposure of $1" "$(sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p' <<<"$said")" "of 10" 3.0
}
# mends CHECK — the line that `doctor` prints for what this check finds.
mends() {
    local found
    found=$(inside shadowmesh doctor --json || true)
    jq -er --arg id "$1" '.findings[] | select(.id == $id).line' <<<"$found" || lab_fail "doctor finds no $1: $(jq -c .findings <<<"$found")"
}
settings() { inside tee /etc/shadowmesh/config.toml >/dev/null; }

step "the relay's unit"
# Another host of the network, which is started by hand.
inside ip netns add other
inside ip link add up0 type veth peer name up0 netns other
inside ip address add 198.51.100.3/24 dev up0
# The relay's, for who is on its machine as well.
inside ip address add 198.51.100.1/32 dev lo
inside ip netns exec other ip address add 198.51.100.2/24 dev up0
for at in '' 'ip netns exec other'; do
    # shellcheck disable=SC2086 # Words.
    inside $at ip link set up0 up
done
printf 'public = "198.51.100.1"\n' | inside tee /etc/shadowmesh/relay.toml >/dev/null
lab_expect "the relay starts" inside systemctl start shadowmesh-relay
ticket=$(inside shadowmesh-relay ticket)
[[ $(of_process shadowmesh-relay Uid) != 0* ]] || lab_fail "the relay is root"
[[ $(of_process shadowmesh-relay CapEff) == 0000000000000400 ]] || lab_fail "the relay may do more than bind low ports: $(of_process shadowmesh-relay CapEff)"
printf 'public = "198.51.100.1"\nlimits.connections = 99\n' | inside tee /etc/shadowmesh/relay.toml >/dev/null
lab_expect "the relay reads its settings again" inside systemctl reload shadowmesh-relay
relay_says() { inside journalctl --unit shadowmesh-relay --output cat | grep -q "$1"; }
lab_wait 5 "it to say what it applied" relay_says 'limits.connections = 99: applied'
exposed shadowmesh-relay.service

step "from a daemon by hand to a service"
refuses "in no network yet" shadowmesh install --now
lab_expect "up by hand" inside shadowmesh up --detach --name a --relay "$ticket"
by_hand=$(inside pgrep -f 'shadowmesh up')
lab_expect "install" inside shadowmesh install
! inside test -e "/proc/$by_hand" || lab_fail "the daemon by hand is still there"
lab_wait 10 "the service to be at its relay" answers
user=$(inside id -u shadowmesh)
[[ $(of_process shadowmesh Uid) == "$user"*"$user" ]] || lab_fail "the service is of $(of_process shadowmesh Uid)"
[[ $(of_process shadowmesh CapEff) == 0000000000001000 ]] || lab_fail "its rights are $(of_process shadowmesh CapEff), and CAP_NET_ADMIN is 1000"
[[ $(of_process shadowmesh CapBnd) == 0000000000001000 ]] || lab_fail "it could get $(of_process shadowmesh CapBnd)"
[[ $(inside stat -c %U:%a /var/lib/shadowmesh) == shadowmesh:700 ]] || lab_fail "the state is not the service's"
[[ $(inside cat /proc/sys/net/ipv6/conf/smesh0/accept_ra) == 0 ]] || lab_fail "members may be routers to this machine"
exposed shadowmesh.service
other() { inside ip netns exec other shadowmesh --state /var/lib/other --socket /run/other.sock "$@"; }
lab_expect "the other host joins" other up --detach --name b "$(inside shadowmesh invite)"
address=$(inside shadowmesh status --json | jq -r '.node.addresses[0] | split("/")[0]')
pings() { inside ip netns exec other ping -c 1 -W 1 "$address"; }
lab_wait 10 "pings of the service" pings
pid=$(property shadowmesh MainPID)
lab_expect "install again" inside shadowmesh install
is shadowmesh MainPID "$pid" || lab_fail "that interrupted the service"
printf 'flood_budget = "2mbit"\n' | inside tee /etc/shadowmesh/config.toml >/dev/null
lab_expect "reload" inside systemctl reload shadowmesh
[[ $(inside shadowmesh status --json | jq -r .switch.flood_budget) == 2mbit ]] || lab_fail "a reload applies nothing"
printf 'flood_budget = 3\n' | inside tee /etc/shadowmesh/config.toml >/dev/null
! inside systemctl reload shadowmesh 2>/dev/null || lab_fail "a reload of a file with a fault is said to be done"
[[ $(inside shadowmesh status --json | jq -r .switch.flood_budget) == 2mbit ]] || lab_fail "a file with a fault changes something"
printf 'device = "other0"\n' | inside tee /etc/shadowmesh/config.toml >/dev/null
[[ $(inside shadowmesh reload --json | jq -r .restart) == "sudo systemctl restart shadowmesh" ]] || lab_fail "what starts the service anew is not said"
inside shadowmesh config | inside tee /etc/shadowmesh/config.toml >/dev/null
lab_expect "reload of the example" inside systemctl reload shadowmesh
is shadowmesh MainPID "$pid" || lab_fail "a reload interrupted the service"
# What root does beside it stays the service's.
inside systemctl stop shadowmesh
inside timeout -s INT 2 shadowmesh up --mtu 1380 >/dev/null 2>&1 || true
[[ $(inside stat -c %U /var/lib/shadowmesh/config.toml) == shadowmesh ]] || lab_fail "what root wrote is root's"
lab_expect "start again" inside systemctl start shadowmesh
lab_wait 10 "the service to be at its relay again" answers
[[ $(inside shadowmesh status --json | jq .node.mtu) == 1380 ]] || lab_fail "what root said is forgotten"

step "a loop that hangs, and a daemon that is killed"
printf '[Service]\nWatchdogSec=2\n' | inside sh -c 'mkdir -p /etc/systemd/system/shadowmesh.service.d && cat >/etc/systemd/system/shadowmesh.service.d/test.conf'
inside systemctl daemon-reload
inside systemctl restart shadowmesh
pid=$(property shadowmesh MainPID)
lab_hold 5 "more than two of its watchdog's times pass"
is shadowmesh MainPID "$pid" || lab_fail "a daemon that works was ended"
began=$(lab_now_ms)
inside kill -STOP "$pid"
back() { ! is shadowmesh MainPID "$pid" && is shadowmesh ActiveState active; }
lab_wait 15 "another daemon" back
lab_measure "hung to serving again (watchdog 2 s)" "$(($(lab_now_ms) - began))" ms
lab_wait 20 "pings of the daemon that took its place" pings
pid=$(property shadowmesh MainPID)
inside kill -KILL "$pid"
lab_wait 15 "another daemon" back
inside rm /etc/systemd/system/shadowmesh.service.d/test.conf
inside systemctl daemon-reload

step "what doctor says of a service"
printf 'mtuu = 1380\n' | settings
! inside systemctl restart shadowmesh 2>/dev/null || lab_fail "it starts with settings that it does not understand"
mend=$(mends settings)
[[ $mend == 'sed -i 1s/mtuu/mtu/ /etc/shadowmesh/config.toml' ]] || lab_fail "doctor says: $mend"
inside sh -c "$mend"
lab_wait 15 "the service to come back by itself" answers
inside systemctl stop shadowmesh
mend=$(mends daemon)
[[ $mend == 'systemctl start shadowmesh' ]] || lab_fail "doctor says: $mend"
inside sh -c "$mend"
lab_wait 10 "the service that doctor starts" answers

step "drop-ins and settings"
inside ip link add br0 type bridge
inside ip link set br0 up
printf 'bridge = "br0"\n' | settings
inside systemctl daemon-reload
lab_expect "restart as a port of a bridge" inside systemctl restart shadowmesh
[[ $(inside readlink /sys/class/net/smesh0/master) == */br0 ]] || lab_fail "it is no port of the bridge"
printf 'bridge = "none"\nnames = "hosts"\n' | settings
lab_expect "restart with names and without the drop-in" inside systemctl restart shadowmesh
is shadowmesh ActiveState active || lab_fail "names keep it from running"
! inside grep -q internal /etc/hosts || lab_fail "it writes what is root's"
has_no_names() { inside shadowmesh status --json | jq -e '.names.error'; }
lab_wait 10 "the service to say that it cannot serve names" has_no_names
lab_expect "restart with the drop-in, as doctor writes it" inside sh -c "$(mends names)"
[[ $(inside grep -v -e '^#' -e '^$' /etc/systemd/system/shadowmesh.service.d/names.conf) == "$(grep -v -e '^#' -e '^$' deploy/systemd/shadowmesh.service.d/names.conf)" ]] ||
    lab_fail "that is another drop-in than the one in deploy/"
lab_wait 10 "names in the hosts file" inside grep -q 'a\.shadowmesh\.internal' /etc/hosts
[[ $(of_process shadowmesh CapEff) == 0000000000001000 ]] || lab_fail "with names its rights are $(of_process shadowmesh CapEff)"
inside systemctl stop shadowmesh
! inside grep -q internal /etc/hosts || lab_fail "names are left"
printf 'rules = "/etc/shadowmesh/none"\n' | settings
refuses "the service does not start: the rules in /etc/shadowmesh/none cannot be read" shadowmesh install

step "and away"
inside rm /etc/shadowmesh/config.toml
key=$(inside sha256sum /var/lib/shadowmesh/node.key)
lab_expect "uninstall" inside shadowmesh uninstall
! inside test -e /etc/systemd/system/shadowmesh.service || lab_fail "the unit is left"
[[ $(inside sha256sum /var/lib/shadowmesh/node.key) == "$key" ]] || lab_fail "uninstall without --purge took the key"
lab_expect "install once more" inside shadowmesh install
lab_wait 10 "the service to be at its relay as before" answers
# It made its network, and has the only key of an admin.
refuses "the key of an admin" shadowmesh uninstall --purge --yes
refuses "say --yes" shadowmesh uninstall --purge --discard-admin-key
inside rm -r /etc/systemd/system/shadowmesh.service.d
said=$(inside shadowmesh uninstall --purge --yes --discard-admin-key 2>&1) || lab_fail "uninstall --purge: $said"
[[ $said == "deleted for good with /var/lib/shadowmesh: this host's key"*"removed /var/lib/shadowmesh"* ]] || lab_fail "the loss is not said before: $said"
for left in /etc/systemd/system/shadowmesh.service /etc/systemd/system/multi-user.target.wants/shadowmesh.service /etc/sysusers.d/shadowmesh.conf /var/lib/shadowmesh /run/shadowmesh /etc/shadowmesh/config.toml; do
    ! inside test -e "$left" || lab_fail "$left is left"
done
! inside id shadowmesh >/dev/null 2>&1 || lab_fail "the user is left"
! inside ip link show smesh0 >/dev/null 2>&1 || lab_fail "the device is left"
lab_expect "uninstall again" inside shadowmesh uninstall --purge --yes
is shadowmesh-relay ActiveState active || lab_fail "the relay has nothing to do with that"

# In a directory that stands for a machine they are tried by tests/tests/packages.rs; here with their scripts and a systemd.
if [[ -n ${LAB_QUICK:-} ]]; then
    step "packages are tried at full length alone"
    exit 0
fi
inside sh -c 'command -v dpkg && command -v deb-systemd-invoke' >/dev/null || {
    step "packages are not tried: this is no Debian"
    exit 0
}
step "packages"
for revision in 1 2; do
    scripts/deb --bin-dir "$SM_BIN" --texts "$LAB_TOOLS" --uncompressed --revision "$revision" --out "$LAB_DIR/deb" >"$LAB_OUT/deb.log" 2>&1 || lab_fail "scripts/deb: $(tail -3 "$LAB_OUT/deb.log")"
done
# dpkg_install REVISION — both packages.
dpkg_install() {
    local package
    for package in shadowmesh shadowmesh-relay; do
        inside sh -c "cat >/run/$package.deb" <"$(echo "$LAB_DIR/deb/${package}"_*"-$1_amd64.deb")"
    done
    inside dpkg --install /run/shadowmesh.deb /run/shadowmesh-relay.deb >"$LAB_OUT/dpkg.log" 2>&1 || lab_fail "dpkg: $(tail -3 "$LAB_OUT/dpkg.log")"
}
inside systemctl disable --now shadowmesh-relay
inside rm -r /etc/systemd/system/shadowmesh-relay.service /etc/shadowmesh /usr/bin/shadowmesh /usr/bin/shadowmesh-relay
dpkg_install 1
for unit in shadowmesh shadowmesh-relay; do
    is "$unit" ActiveState inactive || lab_fail "the package of $unit started it"
    is "$unit" UnitFileState disabled || lab_fail "the package of $unit enabled it"
done
# Another revision brings the same example: what a person wrote stays.
printf 'public = "127.0.0.1"\n' | inside tee /etc/shadowmesh/relay.toml >/dev/null
lab_expect "the package's relay starts" inside systemctl enable --now shadowmesh-relay
lab_expect "up by hand" inside shadowmesh up --detach --name a --relay "$(inside shadowmesh-relay ticket)"
lab_expect "install" inside shadowmesh install
! inside test -e /etc/systemd/system/shadowmesh.service || lab_fail "there are two units"
lab_wait 10 "the package's service to be at its relay" answers
refuses "belongs to a package" shadowmesh uninstall
pid=$(property shadowmesh MainPID) key=$(inside sha256sum /var/lib/shadowmesh/node.key)
dpkg_install 2
back || lab_fail "an upgrade does not restart the service"
lab_wait 10 "the upgraded service to be at its relay" answers
[[ $(inside cat /etc/shadowmesh/relay.toml) == 'public = "127.0.0.1"' ]] || lab_fail "an upgrade took a person's settings"
# Another program's service, which took the place of the package's, is not the package's to stop, nor its state to delete.
inside install -m 0755 /usr/bin/shadowmesh /usr/local/bin/shadowmesh
lab_expect "install of another program" inside /usr/local/bin/shadowmesh install
lab_wait 10 "the other program's service to be at its relay" answers
pid=$(property shadowmesh MainPID)
lab_expect "remove and purge beside it" inside dpkg --purge shadowmesh
is shadowmesh MainPID "$pid" || lab_fail "the package's removal stopped another program's service"
[[ $(inside sha256sum /var/lib/shadowmesh/node.key) == "$key" ]] || lab_fail "the package's purge took another program's key"
lab_expect "uninstall of the other program" inside /usr/local/bin/shadowmesh uninstall
inside rm /usr/local/bin/shadowmesh
dpkg_install 2
# A daemon that was killed leaves names in the hosts file.
inside timeout -s KILL 5 shadowmesh up --names hosts >/dev/null 2>&1 || true
inside grep -q 'a\.shadowmesh\.internal' /etc/hosts || lab_fail "a daemon that is killed leaves no names"
lab_expect "install of the package's once more" inside shadowmesh install
lab_wait 10 "the package's service to be at its relay as before" answers
lab_expect "remove" inside dpkg --remove shadowmesh
! inside grep -q internal /etc/hosts || lab_fail "a removal leaves names"
is shadowmesh ActiveState inactive || lab_fail "what was removed runs"
[[ $(inside sha256sum /var/lib/shadowmesh/node.key) == "$key" ]] || lab_fail "a removal took the key"
lab_expect "purge" inside dpkg --purge shadowmesh shadowmesh-relay
! inside test -e /run/shadowmesh || lab_fail "/run/shadowmesh is left"
for left in /var/lib/shadowmesh /var/lib/private/shadowmesh-relay /var/lib/shadowmesh-relay /etc/shadowmesh /etc/systemd/system/multi-user.target.wants; do
    [[ -z $(inside sh -c "find $left -name '*shadowmesh*' 2>/dev/null") ]] || lab_fail "$left is left"
done
! inside id shadowmesh >/dev/null 2>&1 || lab_fail "the user is left"
