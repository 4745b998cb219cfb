# shellcheck shell=bash
# Each usual fault is made, found by `doctor`, mended by typing the line that it prints, and gone.
# long: a minute and a half of faults one after another; what is judged is tested without kernels
. "$(dirname "$0")/../lib.sh"

# There is no line to type for:
#   state-layout                 it takes a newer program, which there is none of; the file is given its number back
#   protocol                     what it says is to be upgraded; a relay of another version is replaced by one of this
# The line is not typed of:
#   clock                        it sets the clock of the machine; the file that shows the fault is given its time back
#   capability                   it starts another container; the rights are given back
# What stands in for settings of the kernel that are the machine's, and no namespace's to change: a file over each, which `doctor` reads and the line writes.
#   conntrack                    the limit alone, the connections are the host's own
#   socket-buffers               both limits
# What stands in: `sudo` and `systemctl`, which a namespace has not got (we are root there, and no systemd runs).
mkdir -p "$LAB_DIR/bin" "$LAB_DIR/old"
PATH="$LAB_DIR/bin:$PATH"
printf '#!/bin/sh\nexec "$@"\n' >"$LAB_DIR/bin/sudo"
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ "$*" = "restart shadowmesh-relay" ] || exit 1\nsetsid shadowmesh-relay --public relay.test:8443 >>"%s" 2>&1 </dev/null 3>&- &\necho $! >/run/relay.pid\n' "$(realpath "$LAB_OUT")/relay-again.log" >"$LAB_DIR/bin/systemctl"
# The editor that mends a file of rules.
printf '#!/bin/sh\nsed -i s/alow/allow/ "$1"\n' >"$LAB_DIR/bin/mend-rules"
chmod +x "$LAB_DIR/bin"/*
export EDITOR="$LAB_DIR/bin/mend-rules"

# What it said last on a host is in report-HOST.
doctor() { on "$1" shadowmesh doctor --json 2>/dev/null | tee "$LAB_DIR/report-$1" || true; }
# has HOST CHECK — whether it finds that, and more than a hint of it.
has() { doctor "$1" | jq -e --arg id "$2" 'any(.findings[]; .id == $id and .severity != "hint")'; }
clean_of() { doctor "$1" | jq -e --arg id "$2" 'all(.findings[]; .id != $id or .severity == "hint")'; }
# Looked at and found in order, which is more than not found to be wrong.
in_order() { doctor "$1" | jq -e --arg id "$2" 'any(.clean[]; .id == $id)'; }
healthy() { doctor "$1" | jq -e .healthy; }
# seeks HOST CHECK — begins to wait for what it takes long to find, while other things are done elsewhere; `finds` or `mends` go on from there.
declare -A SOUGHT
seeks() {
    lab_wait 20 "doctor on $1 to find $2" has "$1" "$2" &
    SOUGHT[$1]=$!
}
# finds HOST CHECK — waits until it does; LINE is what it says to type then.
finds() {
    if [[ -n ${SOUGHT[$1]:-} ]]; then
        wait "${SOUGHT[$1]}" || exit 1
        unset "SOUGHT[$1]"
    else
        lab_wait 20 "doctor on $1 to find $2" has "$1" "$2"
    fi
    LINE=$(jq -r --arg id "$2" '[.findings[] | select(.id == $id)][0].line' "$LAB_DIR/report-$1")
    step "$1: $2: $LINE"
}
# mends HOST CHECK [ON] — and the line, typed on ON, mends it.
mends() {
    finds "$1" "$2"
    typed "${3:-$1}"
    lab_wait 12 "doctor on $1 to be clean of $2" clean_of "$1" "$2"
}
# typed HOST — types LINE there. What a person has to fill in is in INVITE and RELAY_TICKET.
typed() {
    local line=${LINE//smi1.../${INVITE:-}}
    line=${line//smr1.../${RELAY_TICKET:-}}
    on "$1" sh -c "$line" >>"$LAB_OUT/typed.log" 2>&1 3>&- </dev/null || lab_fail "what doctor says to type fails on $1: $line: $(tail -2 "$LAB_OUT/typed.log")"
}
made=0
fault() { made=$((made + 1)); }

lab_topology relay_two_nat
# The relay has a name, which hosts know from a file, and later from a name server.
for host in a b relay; do
    on "$host" sh -c 'echo "127.0.0.1 localhost" >/run/hosts; echo "198.51.100.2 relay.test" >>/run/hosts; mount --bind /run/hosts /etc/hosts'
done
# A disk that can be filled.
on b sh -c 'mkdir -p /var/lib/shadowmesh && mount -t tmpfs -o size=24m,mode=0700 tmpfs /var/lib/shadowmesh'
lab_relay --public relay.test:8443
# Its firewall lets UDP in from nobody, which hosts find out by and by.
on relay nft -f - <<'RULES'
table inet filter {
    chain input { type filter hook input priority 0; udp dport { 8443, 8444 } drop; }
}
RULES
# Without certificates, for two to have taken one address by hand; those with them come at the end.
on a shadowmesh up --detach --names hosts --relay "$RELAY_TICKET" --certificates off >"$LAB_OUT/a.out" 2>&1 3>&-
lab_invite a

step "before a host joins"
fault; finds b network
fault
on b mount -t tmpfs tmpfs /dev/net
mends b tun
fault
finds b network
# A program that is replaced later.
cp "$SM_BIN/shadowmesh" "$LAB_DIR/old/"
PATH="$LAB_DIR/old:$PATH" typed b
lab_wait 12 "doctor on b to know a network" clean_of b network
lab_wait 20 "b to be connected" lab_connected b 1
rm "$LAB_DIR/old/shadowmesh"
fault; mends b version
lab_wait 20 "b to be connected" lab_connected b 1

step "state"
state=/var/lib/shadowmesh
fault; on a chmod 0644 $state/node.key; mends a secrets
fault; on a sh -c "echo 'mtuu = 1400' >>$state/config.toml"; mends a config
fault; on a touch -d '+1 day' $state/state.toml; finds a clock
[[ $LINE == "timedatectl set-ntp true" ]] || lab_fail "clock: $LINE"
on a touch $state/state.toml
lab_expect "a is clean of clock" clean_of a clock
fault; on b sh -c "head -c 22M /dev/zero >>$state/daemon.log"; mends b disk
fault; on b sh -c "cp -p $state/state.toml /run/ && sed -i 's/^version = .*/version = 99/' $state/state.toml"; finds b state-layout
[[ $LINE == null ]] || lab_fail "state-layout: $LINE"
on b cp -p /run/state.toml $state/state.toml
lab_expect "b is clean of state-layout" clean_of b state-layout
fault; on b sh -c "shadowmesh down && echo 'secret = 1' >$state/network.toml" 2>/dev/null; mends b state-damage
lab_wait 20 "b to be connected" lab_connected b 1

step "the device"
fault; on a ip link set smesh0 down; mends a device-down
fault; on a ip link set smesh0 mtu 1300; mends a device-mtu
fault; on a ip address flush dev smesh0; mends a device-addresses
fault
on a nft 'add table inet filter; add chain inet filter input { type filter hook input priority 0; policy accept; }; add rule inet filter input iifname "smesh0" drop'
mends a firewall
fault; on a nft 'add rule inet filter input iifname != "smesh0" accept; add chain inet filter input { policy drop; }'; mends a firewall
on a nft delete table inet filter
fault
on a sh -c 'ip link add br9 type bridge && echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables && ip link set smesh0 master br9'
mends a bridge-filter
on a ip link set smesh0 nomaster

step "the daemon"
pid_of() { on "$1" cat $state/.lock; }
fault; on a prlimit --pid "$(pid_of a)" --nofile=64:; mends a open-files
# One kill, two faults: nobody runs, and the names of members are where it put them.
lab_wait 10 "names on a" on a grep -q '^# shadowmesh begin' /etc/hosts
kill -KILL "$(pid_of a)"
fault; mends a names-left
lab_expect "the names are gone" on a sh -c '! grep -q shadowmesh /etc/hosts'
fault; mends a daemon
fault; on a shadowmesh down 2>/dev/null
on a shadowmesh --socket /run/other.sock up --detach >/dev/null 2>&1 3>&-
mends a lock
fault
refused=$(on a setpriv --reuid 12345 --regid 12345 --clear-groups shadowmesh doctor --json 2>/dev/null) || true
LINE=$(jq -r '.findings[] | select(.id == "socket").line' <<<"$refused")
[[ $LINE == "sudo shadowmesh doctor" ]] || lab_fail "socket: $LINE"
on a sh -c "$LINE --json || true" 2>/dev/null | jq -e 'all(.findings[]; .id != "socket")' >/dev/null || lab_fail "root may not ask either"
fault
refused=$(on a setpriv --bounding-set -net_admin --inh-caps -net_admin shadowmesh doctor --json 2>/dev/null) || true
jq -e 'any(.findings[]; .id == "capability")' <<<"$refused" >/dev/null || lab_fail "root without CAP_NET_ADMIN is not found"
lab_expect "a is clean of capability" clean_of a capability
fault
on a sh -c 'echo "allow any -> any" >/run/rules && shadowmesh down && shadowmesh up --detach --rules /run/rules' >/dev/null 2>&1 3>&-
on a sh -c 'echo "alow any -> any" >/run/rules; ! shadowmesh reload' >/dev/null 2>&1
mends a rules

step "the network"
lab_wait 20 "a to be connected" lab_connected a 1
fault; on a shadowmesh path b --use direct >/dev/null; mends a pinned
fault; on a sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'; mends a ipv6-off
fault
on a sh -c 'ip link add up1 type veth peer name up2 && ip link set up1 up && ip link set up2 up && ip address add 192.168.77.2/24 dev up1 &&
    ip route add default via 192.168.77.1 dev up1 metric 900 && echo 1 >/proc/sys/net/ipv4/conf/eth0/rp_filter'
mends a rp-filter
on a ip link delete up1
# What b has found out meanwhile.
fault; finds b udp; typed relay
UDP_MENDED=$(lab_now_ms)

step "settings of the machine"
# stands_in HOST SETTING VALUE — from now on it has this value there.
stands_in() {
    local at="/proc/sys/${2//.//}" file="$LAB_DIR/$1/run/$2"
    echo "$3" >"$file"
    on "$1" mount --bind "$file" "$at"
    [[ $(on "$1" sysctl -n "$2") == "$3" ]] || lab_fail "$2 is $(on "$1" sysctl -n "$2")"
}
# is_real HOST SETTING… — and what it is on this machine again.
is_real() {
    local host=$1 setting
    shift
    for setting in "$@"; do on "$host" umount "/proc/sys/${setting//.//}"; done
}
fault
# A firewall that asks what belongs to which connection is what makes the kernel remember them.
on a nft 'table inet remembers { chain output { type filter hook output priority 0; ct state new counter; }; }'
stands_in a net.netfilter.nf_conntrack_max 96
# shellcheck disable=SC2016
on a bash -c 'for port in {20001..20100}; do echo >"/dev/udp/$1/$port"; done' bash 198.51.100.9
mends a conntrack
[[ $(on a sysctl -n net.netfilter.nf_conntrack_count) -ge 100 ]] || lab_fail "the connections are forgotten, and not found room for"
on a nft delete table inet remembers
is_real a net.netfilter.nf_conntrack_max

fault
for setting in net.core.rmem_max net.core.wmem_max; do stands_in a "$setting" 212992; done
hints() { doctor "$1" | jq -e --arg id "$2" 'any(.findings[]; .id == $id and .severity == "hint")'; }
lab_wait 20 "doctor on a to hint at socket-buffers" hints a socket-buffers
LINE=$(jq -r '.findings[] | select(.id == "socket-buffers").line' "$LAB_DIR/report-a")
step "a: socket-buffers: $LINE"
typed a
lab_wait 12 "doctor on a to find socket-buffers in order" in_order a socket-buffers
is_real a net.core.rmem_max net.core.wmem_max
lab_wait 20 "a to be connected" lab_connected a 1

step "a daemon that does not answer, and a relay that does not: each takes as long as doctor has patience"
fault; kill -STOP "$(pid_of a)"; seeks a silent
fault; on relay nft insert rule inet filter input tcp dport 8443 drop; mends b relay-silent relay
mends a silent
for host in a b; do lab_wait 20 "$host to be connected" lab_connected "$host" 1; done
fault
# Both by hand: of two that are not one would give way.
address=$(lab_status a '.node.addresses[0]')
for host in a b; do on "$host" sh -c "shadowmesh down && shadowmesh up --detach --address $address" >/dev/null 2>&1 3>&-; done
lab_wait 20 "b to be connected" lab_connected b 1
mends b address-taken

step "two daemons of one network"
fault
# Each refuses to start in the range of the other, unless that has lost its addresses.
on b sh -c "mkdir -p /run/second && cp $state/*.toml /run/second/ && sed -i '/^name\|^device\|^address/d' /run/second/config.toml && ip address flush dev smesh0"
on b shadowmesh --state /run/second --socket /run/second.sock up --detach --device smesh1 --address 192.168.200.1/24 >/dev/null 2>&1 3>&- || true
mends b two-daemons
on b shadowmesh down 2>/dev/null
fault; on b mount -o remount,ro /var/lib/shadowmesh; mends b state-writable
on b shadowmesh up --detach >/dev/null 2>&1 3>&-
lab_wait 20 "b to be connected" lab_connected b 1

step "the relay"
fault
# The link is up again with the line; the way out is DHCP's business, which the scenario plays.
on b ip link set eth0 down
finds b relay-way
typed b
on b ip route replace default via 192.168.12.1
lab_wait 12 "doctor on b to be clean of relay-way" clean_of b relay-way
fault
on a sh -c 'echo "127.0.0.1 localhost" >/etc/hosts'
ip -n "$LAB-relay" address add 9.9.9.9/32 dev lo
ip -n "$LAB-ra" route add 9.9.9.9/32 via 198.51.100.2
start names relay dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --no-resolv --no-hosts --listen-address=9.9.9.9 --bind-interfaces --address=/relay.test/198.51.100.2
mends a relay-name
fault
stop relay
start other-relay relay "$LAB_TOOLS/other-relay" 2 3 --public relay.test:8443
finds a protocol
[[ $LINE == null ]] || lab_fail "protocol: $LINE"
jq -e '.findings[] | select(.id == "protocol").sentence | contains("relay.test:8443") and contains("speaks versions 2 to 3") and endswith("upgrade the client")' \
    "$LAB_DIR/report-a" >/dev/null || lab_fail "it is not said who is to be upgraded: $(jq -c .findings "$LAB_DIR/report-a")"
stop other-relay
lab_relay --public relay.test:8443
# Hosts that were refused for this come again after a minute.
lab_wait 70 "doctor on a to find protocol in order" in_order a protocol
lab_wait 20 "doctor on a to find the relay in order" in_order a relay-refused
fault
stop relay
# What starts it again finds no key: in its place there is another relay, which is the next fault.
rm -rf "$LAB_DIR/relay/var-lib/shadowmesh-relay"
finds a relay-refused
typed relay
fault
finds a relay-key
jq -e 'all(.findings[]; .id != "relay-refused")' "$LAB_DIR/report-a" >/dev/null || lab_fail "a relay runs, and is said not to"
RELAY_TICKET=$(on relay shadowmesh-relay ticket)
typed a
lab_wait 12 "doctor on a to be clean of relay-key" clean_of a relay-key

step "a network in the way"
fault
subnet=$(lab_status a '.node.addresses[0]' | cut -d. -f1-2)
on a sh -c "ip link add wg0 type veth peer name wg1 && ip link set wg0 up && ip link set wg1 up && ip address add $subnet.250.1/24 dev wg0"
mends a subnet

step "members"
lab_expect "a leaves" on a shadowmesh leave
lab_expect "b leaves" on b shadowmesh leave
on a ip link delete wg0
lab_expect "a makes a network" on a shadowmesh network create office --relay "$RELAY_TICKET"
on a shadowmesh up --detach >/dev/null 2>&1 3>&-
INVITE=$(on a shadowmesh invite --approval 2>/dev/null)
on b shadowmesh up --detach "$INVITE" >/dev/null 2>&1 3>&-
fault; finds b approval
fault; finds a approval
mends b approval a
lab_expect "a is clean of approval" clean_of a approval
fault
on a shadowmesh revoke b 2>/dev/null
INVITE=$(on a shadowmesh invite 2>/dev/null)
mends b revoked
lab_wait 20 "b to be connected" lab_connected b 1

lab_wait 30 "doctor on b to see that UDP works" in_order b udp
step "udp was mended $(($(lab_now_ms) - UDP_MENDED)) ms before"
for host in a b; do
    lab_wait 10 "doctor on $host to find no fault" healthy "$host"
    on "$host" shadowmesh doctor >"$LAB_OUT/$host.doctor" || lab_fail "exit code of doctor on $host: $?"
done

lab_oracle mended a b --seconds "$(quick 2 5)"

step "the archive"
lab_expect "an archive is written" on a shadowmesh doctor --bundle /run/help.tar.gz
if on a shadowmesh doctor --bundle /run/help.tar.gz 2>/dev/null; then lab_fail "an archive is written over another"; fi
[[ $(on a stat -c %a /run/help.tar.gz) == 600 ]] || lab_fail "others may read the archive"
mkdir -p "$LAB_OUT/bundle"
on a tar -xzf /run/help.tar.gz -C "$(realpath "$LAB_OUT/bundle")"
for what in relay.test 198.51.100.2 192.168.11.2 "$(lab_address a)" "$(lab_address b)" "$(lab_status a .node.id)" "$(lab_status b '.node.id[0:10]')" \
    "$(lab_status a .node.mac)" "${RELAY_TICKET:0:24}" office; do
    ! grep -rqiwF -- "$what" "$LAB_OUT/bundle" || lab_fail "$what is in the archive: $(grep -rniwF -- "$what" "$LAB_OUT/bundle" | head -2)"
done
step "certificates that end"
# As if so many days had passed for both: what was seen is put ahead of this machine's clock. It is last, because time does not go back.
days_pass() {
    for host in a b; do
        on "$host" shadowmesh down 2>/dev/null
        on "$host" sh -c "echo 'seen = $(($(date +%s) + $1 * 86400))' >$state/clock"
    done
}
days_pass 345
# No admin is there.
on b shadowmesh up --detach >/dev/null 2>&1 3>&-
fault; mends b certificate a
lab_wait 20 "b to be connected" lab_connected b 1
days_pass 720
on a shadowmesh up --detach >/dev/null 2>&1 3>&-
INVITE=$(on a shadowmesh invite 2>/dev/null)
on b shadowmesh up --detach >/dev/null 2>&1 3>&-
fault; mends b certificate
lab_wait 20 "b to be connected" lab_connected b 1

lab_measure "faults made and found" "$made" faults
