# shellcheck shell=bash
# Bad input gets one clear sentence and exit code 1 (usage: 2), and what was there before stays as it was.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat

WRONG=0
# refused CODE PATTERN WHAT COMMAND… — the command must end by itself with CODE, its last words matching PATTERN. All
# cases are tried before the scenario fails, so that one run shows every sentence.
refused() {
    local code=$1 pattern=$2 what=$3 got=0 said
    shift 3
    timeout 25 "$@" >"$LAB_OUT/case.out" 2>"$LAB_OUT/case.err" </dev/null || got=$?
    said=$(grep -v '^[[:space:]]*$' "$LAB_OUT/case.err" | tail -1)
    if [[ $got -ne $code ]]; then
        step "WRONG: $what: exit code $got, not $code; said: $said" && WRONG=$((WRONG + 1))
    elif grep -q 'panicked at' "$LAB_OUT/case.err"; then
        step "WRONG: $what: panic" && WRONG=$((WRONG + 1))
    elif [[ $code -eq 1 ]] && ! grep -qiE "$pattern" <<<"$said"; then
        step "WRONG: $what: nothing like /$pattern/ in: $said" && WRONG=$((WRONG + 1))
    elif [[ $code -eq 1 && $(grep -ciE '^(error|shadowmesh[a-z-]*):' "$LAB_OUT/case.err") -gt 1 ]]; then
        step "WRONG: $what: more than one sentence: $(tr '\n' '|' <"$LAB_OUT/case.err")" && WRONG=$((WRONG + 1))
    else
        step "ok: $what: ${said:0:150}"
    fi
}
here() { # HOST COMMAND… as one command that timeout can run
    local holder=${LAB_HOLDER[$1]}
    shift
    printf '%s\0' nsenter --target "$holder" --net --mount --uts -- "$@"
}
at() { # CODE PATTERN WHAT HOST COMMAND…
    local code=$1 pattern=$2 what=$3 host=$4 command
    shift 4
    mapfile -d '' command < <(here "$host" "$@")
    refused "$code" "$pattern" "$what" "${command[@]}"
}

# Usage.
at 2 '' "no such command" a shadowmesh frobnicate
at 2 '' "an MTU that is no number" a shadowmesh up --mtu banana
at 2 '' "no such relay option" relay shadowmesh-relay --frobnicate
at 2 '' "a listen address that is none" relay shadowmesh-relay --listen nonsense

# Nothing there yet.
at 1 'not running|no daemon|shadowmesh up' "status without a daemon" a shadowmesh status
at 1 'invite|--relay' "up without anything to join" a shadowmesh up

# Tickets.
lab_relay
ticket=$RELAY_TICKET
middle=$((${#ticket} / 2))
other=A && [[ ${ticket:middle:1} == A ]] && other=B
at 1 'damaged|checksum|mistyped|copied' "a damaged ticket" a shadowmesh up --relay "${ticket:0:middle}$other${ticket:middle+1}"
at 1 'damaged|cut|checksum|short|copied|incomplete' "a ticket cut short" a shadowmesh up --relay "${ticket:0:middle}"
at 1 'relay ticket|invite|--relay' "a relay ticket where an invite belongs" a shadowmesh up "$ticket"
at 1 'ticket|smi1|invite' "no ticket at all" a shadowmesh up hello
lab_up a --relay "$ticket"
lab_invite a
at 1 'invite|smr1|relay ticket' "an invite where a relay ticket belongs" b shadowmesh up --relay "$INVITE"
other=A && [[ ${INVITE:40:1} == A ]] && other=B
at 1 'damaged|checksum|mistyped|copied' "a damaged invite" b shadowmesh up "${INVITE:0:40}$other${INVITE:41}"
short=$(on a shadowmesh invite --expires 1s | grep -o 'smi1[A-Za-z0-9_-]*' | head -1)
lab_hold 2 "the invite runs out"
at 1 'expired' "an expired invite" b shadowmesh up "$short"

# A daemon that runs already.
at 1 'running|already' "a second daemon" a shadowmesh up
at 1 'no peer|unknown|nobody|no member|not know' "a peer that does not exist" a shadowmesh ping nobody-here -c 1

# The relay's own.
at 1 'in use|already' "a port in use" relay shadowmesh-relay --state /run/second
mkdir -p "$LAB_DIR/relay/run/config"
echo 'frobnicate = true' >"$LAB_DIR/relay/run/config/relay.toml"
at 1 'frobnicate' "a config with an unknown field" relay shadowmesh-relay --config /run/config/relay.toml --state /run/third --listen 127.0.0.1:9999
at 1 'read|exist|find|open|no such' "a config that is not there" relay shadowmesh-relay --config /run/config/none.toml --state /run/third --listen 127.0.0.1:9999
at 1 'writ|permission|read-only|create' "a relay state that is not writable" relay unshare --mount sh -c \
    'mount -t tmpfs -o ro tmpfs /var/lib && exec shadowmesh-relay --listen 127.0.0.1:9999'

# The machine.
at 1 '/dev/net/tun' "no /dev/net/tun" b unshare --mount sh -c "mount -t tmpfs tmpfs /dev/net && exec shadowmesh up $INVITE"
at 1 'CAP_NET_ADMIN|root|sudo' "no CAP_NET_ADMIN" b setpriv --bounding-set=-net_admin --inh-caps=-net_admin shadowmesh up "$INVITE"
on b ip link add smesh0 type bridge
at 1 'smesh0' "the device's name taken" b shadowmesh up "$INVITE"
on b ip link delete smesh0
at 1 'writ|permission|read-only|create' "a state directory that is not writable" b unshare --mount sh -c \
    "mount -t tmpfs -o ro tmpfs /var/lib && exec shadowmesh up $INVITE"
network=$(lab_address a | cut -d. -f1,2)
on b ip route add "$network.0.0/16" dev eth0
at 1 "$network.*--address|--address.*$network" "a local route in the way" b shadowmesh up "$INVITE"
on b ip route delete "$network.0.0/16" dev eth0
at 1 'eth0|192\.168\.12' "an --address inside the LAN" b shadowmesh up "$INVITE" --address 192.168.12.77/24 --state /run/clash
# What was refused is not remembered: the next plain attempt is judged by itself.
mapfile -d '' again < <(here b shadowmesh up "$INVITE" --state /run/clash)
if timeout 3 "${again[@]}" >/dev/null 2>"$LAB_OUT/case.err" || [[ $? -ne 124 ]]; then
    step "WRONG: the refused --address is remembered: $(tail -1 "$LAB_OUT/case.err")" && WRONG=$((WRONG + 1))
fi

mkdir -p "$LAB_DIR/b/run/odd"
printf 'frobnicate = 1\n' >"$LAB_DIR/b/run/odd/config.toml"
chmod -R go= "$LAB_DIR/b/run/odd"
at 1 'frobnicate' "a client config with an unknown field" b shadowmesh up "$INVITE" --state /run/odd

# A relay with another key at the same address.
stop a
stop relay
lab_relay --state /run/another
at 1 'key' "a relay with another key" b shadowmesh up --relay "$ticket"
stop relay
lab_relay

# Nothing of all this hurt what was there before.
start a a shadowmesh up
lab_wait 15 "the daemon of a" lab_answers a
lab_up b "$INVITE"
lab_wait 20 "a to be connected to b after all this" lab_connected a 1
lab_oracle frames a b --seconds 2

# A state from a newer version is left alone, not overwritten.
stop b
state="$LAB_DIR/b/var-lib/shadowmesh"
if grep -rlE '^version *= *[0-9]+' "$state" >"$LAB_OUT/versioned"; then
    xargs sed -i -E 's/^version *= *[0-9]+/version = 99/' <"$LAB_OUT/versioned"
    before=$(find "$state" -type f -exec sha256sum {} + | sort)
    at 1 'newer|version' "a state directory from a newer version" b shadowmesh up
    [[ $before == "$(find "$state" -type f -exec sha256sum {} + | sort)" ]] || lab_fail "the newer state was changed"
else
    step "WRONG: the state has no version field" && WRONG=$((WRONG + 1))
fi

[[ $WRONG -eq 0 ]] || lab_fail "$WRONG cases are wrong"
