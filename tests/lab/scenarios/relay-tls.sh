# shellcheck shell=bash
# Networks that let nothing but HTTPS out: the relay by TLS, whatever its certificate, another one while frames pass, behind HAProxy, by ACME, and through an
# HTTP proxy; and direct, with HAProxy before the relay.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat tcp-443
tls="$LAB_DIR/tls"
mkdir -p "$tls"

# made NAME DAYS — a certificate that nobody vouches for.
made() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$2" -subj "/CN=$1" -keyout "$tls/$1.key" -out "$tls/$1.crt" 2>"$LAB_OUT/openssl.log"
}
# used NAME — what the relay is given, as a renewal does it: one file after the other.
used() {
    cp "$tls/$1.crt" "$tls/new" && mv "$tls/new" "$tls/cert.pem"
    cp "$tls/$1.key" "$tls/new" && mv "$tls/new" "$tls/key.pem"
}
# presented — the name in the certificate that the relay shows to who asks for relay.test; presents NAME.
presented() { on a openssl s_client -connect "$RELAY_ADDRESS:443" -servername relay.test -tls1_3 </dev/null 2>/dev/null | openssl x509 -noout -subject -issuer 2>/dev/null; }
presents() { presented | grep -q "$1"; }
relay_says() { on relay shadowmesh-relay status --json | jq -e "$1"; }
by_tls() { lab_status "$1" '.relays[0] | (.state == "connected" and (.url | startswith("wss://"))) or error'; }
# seen HOST EXPRESSION — whether the relay sees the host at an address like that.
seen() { lab_status "$1" ".relays[0] | (.state == \"connected\" and (.observed_tcp | test(\"$2\"))) or error"; }

made first 30
made second 10
used first
lab_relay --listen '[::]:443' --tls-cert "$tls/cert.pem" --tls-key "$tls/key.pem"
lab_up a --relay "$RELAY_TICKET"
lab_invite a
lab_up b "$INVITE"
lab_all_connected 20
for host in a b; do lab_expect "$host is connected by TLS" by_tls "$host"; done
lab_expect "all handshakes are post-quantum" relay_says '.tls.post_quantum >= 2 and .tls.post_quantum == .tls.handshakes'
lab_expect "the first certificate is presented" presents first
on a openssl s_client -connect "$RELAY_ADDRESS:443" -tls1_2 </dev/null >"$LAB_OUT/tls12" 2>&1 && lab_fail "TLS 1.2 is spoken"

lab_oracle renewed a b --seconds "$(quick 6 12)" &
oracle=$!
lab_frames_pass a 500
used second
lab_wait 8 "the second certificate to be presented" presents second
echo nonsense >"$tls/key.pem"
lab_wait 8 "the relay to say that the new key is of no use" grep -q 'the old TLS certificate is presented on' "$LAB_OUT/relay.log"
lab_expect "the second certificate is presented" presents second
wait "$oracle" || lab_fail "frames were lost with the certificate"
grep -q "the TLS certificate's time is nearly over" "$LAB_OUT/relay.log" || lab_fail "nobody is told that ten days are left"
used second

if [[ -z ${LAB_QUICK:-} ]]; then
    # Those that are missing.
    scripts/install-deps proxies

    # HAProxy passes the bytes on, and says by the PROXY protocol whose they are. Host and port come through, so the pair could try direct TCP.
    cat "$tls/second.crt" "$tls/second.key" >"$tls/both.pem"
    cat >"$tls/haproxy.cfg" <<CONFIG
defaults
    timeout connect 5s
    timeout client 5m
    timeout server 5m
frontend bytes
    mode tcp
    bind $RELAY_ADDRESS:443
    default_backend relay
backend relay
    mode tcp
    server relay 127.0.0.1:8443 send-proxy-v2
CONFIG
    cat >"$tls/relay.toml" <<CONFIG
listen = ["[::]:8443"]
public = "wss://$RELAY_ADDRESS:443"
tls_cert = "$tls/cert.pem"
tls_key = "$tls/key.pem"
trusted_proxies = ["127.0.0.1"]
CONFIG
    stop relay
    start haproxy relay haproxy -db -f "$tls/haproxy.cfg"
    lab_relay --config "$tls/relay.toml"
    for host in a b; do lab_wait 15 "$host to be seen behind HAProxy, with its port" seen "$host" "^198.51.100.1${LAB_NUMBER[$host]}:[1-9]"; done
    lab_all_connected 10
    lab_oracle behind-haproxy a b --seconds 3

    # HAProxy ends the TLS and speaks HTTP: the address comes through, the port does not.
    sed -i -e '/^frontend/,$d' "$tls/haproxy.cfg"
    cat >>"$tls/haproxy.cfg" <<CONFIG
frontend requests
    mode http
    option forwardfor
    bind $RELAY_ADDRESS:443 ssl crt $tls/both.pem alpn http/1.1
    default_backend relay
backend relay
    mode http
    timeout tunnel 1h
    server relay 127.0.0.1:8443
CONFIG
    stop haproxy
    start haproxy relay haproxy -db -f "$tls/haproxy.cfg"
    for host in a b; do lab_wait 15 "$host to be seen behind HAProxy, without its port" seen "$host" "^198.51.100.1${LAB_NUMBER[$host]}:0$"; done
    lab_all_connected 10
    lab_oracle behind-http a b --seconds 3
    stop haproxy
    stop relay

    # An authority of one's own (Pebble): the relay orders, is looked at on port 443, and presents what it gets.
    printf '[req]\ndistinguished_name = dn\nx509_extensions = of\n[dn]\n[of]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n' >"$tls/ca.cnf"
    openssl req -x509 -config "$tls/ca.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=ca.test" -keyout "$tls/ca.key" -out "$tls/ca.crt" 2>>"$LAB_OUT/openssl.log"
    cat >"$tls/pebble.json" <<CONFIG
{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": "$tls/ca.crt", "privateKey": "$tls/ca.key",
 "httpPort": 5002, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false}}
CONFIG
    start names relay pebble-challtestsrv -defaultIPv4 127.0.0.1 -defaultIPv6 '' -dns01 127.0.0.1:8053 -http01 '' -https01 '' -tlsalpn01 '' -management 127.0.0.1:8055
    start pebble relay env PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=5 pebble -config "$tls/pebble.json" -dnsserver 127.0.0.1:8053
    lab_wait 10 "the authority to answer" on relay curl -sk https://127.0.0.1:14000/dir
    acme=(--listen '[::]:443' --public "$RELAY_ADDRESS:443" --acme-domain relay.test --acme-directory https://127.0.0.1:14000/dir --acme-ca "$tls/ca.crt")
    lab_relay "${acme[@]}"
    lab_wait 60 "a certificate by ACME ($(tail -1 "$LAB_OUT/relay.log"))" relay_says '.tls.certificate_expires > 0'
    lab_expect "the authority's certificate is presented" presents Pebble
    for host in a b; do lab_wait 15 "$host to be connected by TLS" by_tls "$host"; done
    # It is kept: after a restart it is there, with the authority gone.
    stop relay
    stop pebble
    lab_relay "${acme[@]}"
    lab_expect "the authority's certificate is presented after a restart" presents Pebble
    for host in a b; do lab_wait 15 "$host to be connected by TLS" by_tls "$host"; done

    # A proxy that wants a password is the only way out.
    cat >"$tls/tinyproxy.conf" <<CONFIG
Port 443
Listen 198.51.100.3
Timeout 600
BasicAuth user grue7n
ConnectPort 443
CONFIG
    stop relay
    # On this one address, so that the proxy has the other.
    lab_relay --listen "$RELAY_ADDRESS:443" --tls-cert "$tls/cert.pem" --tls-key "$tls/key.pem" --public "$RELAY_ADDRESS:443"
    start proxy relay tinyproxy -d -c "$tls/tinyproxy.conf"
    stop a
    on ra nft insert rule ip lab forward ip daddr "$RELAY_ADDRESS" drop
    start a a shadowmesh up --proxy http://198.51.100.3:443
    lab_wait 15 "a to say that the proxy wants a password" grep -q 'the proxy 198.51.100.3:443 wants a user and a password' "$LAB_OUT/a.log"
    stop a
    lab_up a --proxy http://user:grue7n@198.51.100.3:443
    lab_all_connected 20
    lab_expect "status names the proxy, and not its password" lab_status a '.relays[0].proxy == "http://198.51.100.3:443" or error'
    lab_oracle through-a-proxy a b --seconds 3
    # doctor goes by it too, past the daemon, with the password that the settings have; and says what it says where that is wrong, and ends with 1 then.
    says_proxy() { { on a shadowmesh doctor --json || true; } | jq -e "any(.findings[]; .id == \"relay-proxy\" and (.sentence | contains(\"198.51.100.3:443\")) and $1)"; }
    lab_expect "doctor reaches the relay by the proxy" says_proxy '.severity == "hint"'
    stop a
    lab_up a --proxy http://user:wrong@198.51.100.3:443
    lab_wait 10 "doctor to say that the password is wrong" says_proxy '(.sentence | contains("refuses the user and password"))'
    stop a
    if grep -q grue7n "$LAB_OUT/a.log"; then lab_fail "the password is in the log"; fi

    # Behind HAProxy as deploy/README.md has it, and hosts that may send datagrams: TCP 8443 is the proxy's alone, UDP is everybody's, and the pair goes direct.
    stop b
    stop proxy
    stop relay
    on relay nft -f - <<'RULES'
table inet closed {
    chain input { type filter hook input priority 0; iifname != "lo" tcp dport 8443 drop; }
}
RULES
    for host in a b; do lab_nat "$host" port-restricted; done
    start haproxy relay haproxy -db -f "$tls/haproxy.cfg"
    lab_relay --config "$tls/relay.toml"
    lab_up a --proxy none
    lab_up b
    for host in a b; do
        lab_wait 20 "$host to be connected by HAProxy, and its datagrams to be seen" lab_status "$host" '.relays[0] | (.state == "connected" and (.url | startswith("wss://")) and (.observed_udp != null)) or error'
        lab_wait 30 "$host to be direct" lab_path "$host" direct-udp
        on "$host" timeout 2 bash -c "</dev/tcp/$RELAY_ADDRESS/8443" 2>/dev/null && lab_fail "$host reaches the relay past the proxy"
    done
    lab_oracle direct-behind-haproxy a b --seconds 3
fi
