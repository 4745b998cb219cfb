# shellcheck shell=bash
# With `up --names on` other programs find members by name, renames are followed, and /etc/hosts is afterwards what it was, byte for byte.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_relay

# The hosts files are each host's own. On a another file can take its place; on b it is mounted by itself, as in a container, and its last line
# has no end.
own_hosts() { # HOST TEXT
    # shellcheck disable=SC2016
    on "$1" sh -c 'cp -a /etc /run/etc && printf "$1" >/run/etc/hosts && cp /run/etc/hosts /run/hosts.before && mount --bind /run/etc /etc' sh "$2"
}
own_hosts a '127.0.0.1 localhost\n192.0.2.9 printer\n'
own_hosts b '127.0.0.1 localhost\r\n::1 localhost'
on b sh -c 'cp /etc/hosts /run/hosts && mount --bind /run/hosts /etc/hosts'
as_before() { on "$1" cmp /run/hosts.before /etc/hosts; }
finds() { [[ $(on "$1" getent ahostsv4 "$2" | awk '{ print $1; exit }') == "$3" ]]; }
does_not_find() { ! on "$1" getent hosts "$2"; }
names() { lab_status "$1" ".names | ($2) or error"; }

# Off until somebody asks.
lab_expect "a network is made" on a shadowmesh network create office --relay "$RELAY_TICKET" --name a
lab_up a
lab_up b "$(on a shadowmesh invite --uses any 2>/dev/null)" --name b --names hosts
lab_all_connected 20
lab_expect "names are off by default" lab_status a '.names == null or error'
lab_expect "and nothing was touched" as_before a

# Asked for while the daemon runs.
# The example says how it is written.
lab_expect "names are set in the file" on a sed -i 's/^# names = "off"/names = "on"/' /var/lib/shadowmesh/config.toml
lab_expect "and read" on a shadowmesh reload
a_address=$(lab_address a) b_address=$(lab_address b)
lab_wait 5 "a to find b" finds a b.office.internal "$b_address"
lab_wait 5 "b to find a" finds b a.office.internal "$a_address"
lab_expect "ping b" on a ping -c 1 -W 3 b
lab_expect "ping a" on b ping -c 1 -W 3 a
lab_expect "by IPv6 as well" on a ping -6 -c 1 -W 3 b.office.internal
lab_expect "getent" on a getent hosts b.office.internal
lab_expect "what the host says itself stays" finds a printer 192.0.2.9
lab_expect "the status says how" names a '.way == "hosts" and .domain == "office.internal" and .served == 2 and .error == null'
lab_expect "for people too" on a sh -c 'shadowmesh status | grep -q "^  names    2 by /etc/hosts"'

# A rename is followed, and what this host calls something stays its own.
lab_expect "b is renamed" on a shadowmesh rename b bob
lab_wait 10 "a to find bob" finds a bob "$b_address"
lab_expect "and b no more" does_not_find a b
lab_wait 10 "bob to know itself by its whole name" finds b bob.office.internal "$b_address"
lab_expect "bob is renamed to a name that a has" on a shadowmesh rename bob printer
lab_wait 10 "the whole name" finds a printer.office.internal "$b_address"
lab_expect "the short one is a's own still" finds a printer 192.0.2.9
lab_expect "which the status says" names a '.left_out | any(.name == "printer")'
lab_expect "a member that is called wpad" on a shadowmesh rename printer wpad
lab_wait 10 "its old name to go" does_not_find a printer.office.internal
lab_expect "is not found" does_not_find a wpad.office.internal
lab_expect "b has its name again" on a shadowmesh rename wpad b
lab_wait 10 "a to find b again" finds a b "$b_address"

# Another network of the same name on the same host: another label, and each takes out its own.
other() { on a shadowmesh --network office "$@"; }
start second a shadowmesh up --network office --relay "$RELAY_TICKET" --device smesh1 --name x --names on
label() { other status --json | jq -re '.names.domain'; }
lab_wait 15 "the second network's names" label
[[ $(label) == office-??????.internal ]] || lab_fail "two networks of one name: the second is called $(label)"
own=$(other status --json | jq -r '.node.addresses[0] | split("/")[0]')
lab_wait 5 "them in the file" finds a "x.$(label)" "$own"

# Killed: the block stays. The next start takes it out, wanted or not, and `down` does; the other network's stays where it is.
stop a KILL
lab_expect "a block is left" finds a b.office.internal "$b_address"
lab_up a --names off
lab_wait 5 "the next start to take it out" does_not_find a b.office.internal
lab_expect "the second network's is there" finds a "x.$(label)" "$own"
stop a
lab_up a --names on
lab_wait 20 "names once more" finds a b.office.internal "$b_address"
lab_wait 10 "b to know the new a" finds b a.office.internal "$a_address"
stop a KILL
lab_expect "down takes it out" on a shadowmesh down
lab_expect "so it is" does_not_find a b.office.internal
lab_expect "the second network's is there still" finds a "x.$(label)" "$own"
stop second
lab_expect "after SIGTERM all is as it was on a" as_before a

stop b KILL
lab_expect "a block is left on b" finds b a.office.internal "$a_address"
lab_up b
lab_wait 10 "one block" on b sh -c '[ "$(grep -c "shadowmesh begin" /etc/hosts)" = 1 ]'
lab_expect "down ends b" on b shadowmesh down
lab_expect "all is as it was on b" as_before b

# A file that cannot be written, and one with half a block, are said, and the tunnel is up.
on b mount -o remount,bind,ro /etc/hosts
lab_up a
lab_up b
lab_all_connected 20
lab_wait 10 "b to say that it cannot" names b '.way == "none" and (.error | contains("ead-only")) and .failures > 0'
lab_expect "for people too" on b sh -c 'shadowmesh status | grep -q "^  names    not served"'
lab_expect "frames pass" on b ping -c 1 -W 3 "$a_address"
lab_oracle served-or-not a b --seconds "$(quick 2 5)"
on b mount -o remount,bind,rw /etc/hosts
# shellcheck disable=SC2016
on b sh -c 'printf "\n\n# shadowmesh begin %s x\n" "$(shadowmesh status --json | jq -r .node.id)" >>/etc/hosts; cp /etc/hosts /run/hosts.before'
lab_expect "b tries again" on b shadowmesh reload
lab_wait 10 "b to say what is wrong" names b '.error | contains("line 4")'
stop a
lab_expect "the file of a is as it was" as_before a
stop b
lab_expect "that of b with its half a block too" as_before b
for host in a b; do [[ -z $(on "$host" find /etc -maxdepth 1 -name '.hosts*') ]] || lab_fail "something is left beside the hosts file of $host"; done
