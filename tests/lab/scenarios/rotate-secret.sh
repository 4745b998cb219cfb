# shellcheck shell=bash
# The network's secret is replaced under frames, none of which is lost; who was revoked finds nobody at the relay any more, and who was away comes back by an invite.
# long: a minute in which both secrets are good
. "$(dirname "$0")/../lib.sh"
lab_topology relay_three_nat
lab_relay

lab_expect "a network with certificates is made" on a shadowmesh network create office --relay "$RELAY_TICKET" --name a
lab_up a
invite() { on a shadowmesh invite "$@" 2>/dev/null; }
lab_up b "$(invite --uses 1 --name b)"
lab_up c "$(invite --uses 1 --name c)"
lab_all_connected 20
addresses() { for host in a b c; do lab_status "$host" '.node.addresses'; done; }
before=$(addresses)
secret() { lab_status "$1" ".membership.secret | (.generation == $2 and .state == \"$3\") or error"; }
# rotate WHAT SAYS [OPTION…] — replaces the secret; the command says that.
rotate() {
    local what=$1 says=$2 said
    shift 2
    said=$(on a shadowmesh rotate-secret "$@" 2>&1) || lab_fail "the secret $what: $said"
    [[ $said == *"$says"* ]] || lab_fail "the secret $what, and rotate-secret does not say $says: $said"
    step "ok: the secret $what"
}
relay_has() { on relay shadowmesh-relay status --json | jq -e ".clients == $1 and .networks == $2"; }

# Under frames, by the relay's stream and directly.
lab_expect "a and b send through the relay's stream" on a shadowmesh path b --use relay-ws
lab_oracle relayed a b --seconds "$(quick 8 15)" &
oracle=$!
lab_frames_pass a 500
began=$(lab_now_ms)
rotate "is replaced" 'all 2 other members have it'
for host in b c; do lab_wait 5 "$host to have it" secret "$host" 1 rotating; done
lab_took "from rotate-secret to held by all" $(($(lab_now_ms) - began)) 2000
lab_wait 15 "everybody to be at the relay under both" relay_has 6 2
wait "$oracle" || lab_fail "frames were lost while the secret was replaced"
[[ $(addresses) == "$before" ]] || lab_fail "addresses changed: $before, now $(addresses)"
lab_expect "another is refused meanwhile" sh -c "nsenter --target ${LAB_HOLDER[a]} --net --mount --uts -- shadowmesh rotate-secret 2>&1 | grep -q 'replaced already'"
lab_expect "members says so" sh -c "nsenter --target ${LAB_HOLDER[a]} --net --mount --uts -- shadowmesh members | grep -q '^secret: generation 1, the old one is good for'"

# c is lost: revoked, it still finds members at the relay.
stop c
lab_wait 10 "c to be gone" lab_status a '[.peers[] | select(.name == "c" and .state == "connected")] | length == 0 or error'
lab_expect "c is revoked" on a shadowmesh revoke c
lab_up c
sees() { lab_status c "[.peers[] | select(.state != \"offline\")] | length $1 or error"; }
lab_wait 15 "c to find members all the same" sees '> 0'

# With another secret, and no grace, it does not.
lab_oracle stolen a b --seconds "$(quick 75 90)" &
oracle=$!
lab_frames_pass a 500
rotate "is replaced at once" 'generation 2' --now
lab_wait 10 "b to have it" secret b 2 rotating
for host in a b; do lab_wait 75 "$host to have given up the one before" secret "$host" 2 settled; done
lab_expect "c never got it" lab_status c '.membership.secret.generation == 1 or error'
wait "$oracle" || lab_fail "frames were lost while the secret was replaced at once"
stop c
lab_wait 20 "two members under one secret at the relay" relay_has 2 1
refused=$(lab_status b '.dropped.handshake // 0')
lab_up c
lab_wait 20 "c to be at the relay, where nobody else is" sh -c "nsenter --target ${LAB_HOLDER[c]} --net --mount --uts -- shadowmesh status --json | jq -e '.relays[0].state == \"connected\"'"
lab_hold 5 "listening"
lab_expect "c finds nobody" sees '== 0'
[[ $(lab_status b '.dropped.handshake // 0') == "$refused" ]] || lab_fail "a handshake of c reached b"
for host in a b; do lab_expect "$host hears nothing of c" lab_status "$host" '[.peers[] | select(.name == "c" and .state != "offline")] | length == 0 or error'; done

# Who was away, and is a member, takes another invite.
stop b
rotate "is replaced while b is away" 'have not got it yet: b; each needs another invite' --now
lab_wait 75 "a to have given up the one before" secret a 3 settled
lab_up b
lab_wait 15 "b to be at the relay" lab_status b '.relays[0].state == "connected" or error'
lab_expect "b finds nobody" lab_status b '[.peers[] | select(.state == "connected")] | length == 0 or error'
stop b
lab_up b "$(invite --uses 1)"
lab_wait 20 "b to be connected, as the member that it is" lab_status a '[.peers[] | select(.name == "b" and .state == "connected")] | length == 1 or error'
lab_oracle after a b --seconds "$(quick 2 5)"
