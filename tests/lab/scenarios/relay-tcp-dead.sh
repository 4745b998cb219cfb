# shellcheck shell=bash
# TCP to the relay dies without a word while UDP passes, as with a proxy that hangs: those who are direct do not notice; those who are relayed are cut
# off once the relay gives their registration up, lose nothing, and go on when it is back; who is not registered any more says so.
# long: it waits for heartbeats
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_network
tcp_dies() {
    on ra nft 'table ip hang { chain forward { type filter hook forward priority -20; meta l4proto tcp drop; }; }'
    step "TCP of a is swallowed"
}
tcp_lives() {
    on ra nft delete table ip hang
    step "TCP of a passes again"
}
registered() { lab_status a "(.relays[0].state == \"connected\") == $1 or error"; }

# dies NAME KIND — TCP dies under frames that go by KIND, until a has noticed, and comes back.
dies() {
    local name=$1 kind=$2 oracle host up
    lab_oracle "$name" a b --seconds "$(quick 24 34)" --max-gap-ms "$3" --max-reordered "$4" &
    oracle=$!
    lab_frames_pass a 500
    tcp_dies
    lab_wait 20 "a to say that it is not registered" registered false
    lab_hold "$(quick 1 8)" "there is no TCP"
    up=$(lab_now_ms)
    tcp_lives
    lab_wait 20 "a to be registered again" registered true
    lab_measure "$name: TCP back to registered" "$(($(lab_now_ms) - up))" ms
    wait "$oracle" || lab_fail "$name: it was felt"
    lab_back "$name: TCP back to frames" "$name" "$up" 2000
    for host in a b; do
        lab_expect "$host lost nothing" lab_status "$host" '.peers[0].lost == 0 or error'
        lab_wait 10 "$host to be on $kind" lab_path "$host" "$kind"
    done
}
lab_direct a b
dies direct direct-udp 90 0
for host in a b; do lab_moved "$host" 0 1; done
[[ -z ${LAB_QUICK:-} ]] || exit 0

for host in a b; do lab_nat "$host" symmetric; done
lab_again
for host in a b; do lab_wait 10 "$host to be on relay-udp" lab_path "$host" relay-udp; done
# The relay holds a channel for who is registered.
dies relayed relay-udp 20000 100000
