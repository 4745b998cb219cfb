# shellcheck shell=bash
# The four commands of the first run, typed as the README has them, on hosts that have never seen ShadowMesh.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat

# We are root already, and a fresh host may have no sudo.
sudo() { "$@"; }
typed() { echo "$1\$ $2"; }

# 1. relay$ shadowmesh-relay
start relay relay shadowmesh-relay
lab_wait 10 "the relay's ticket" grep -q '^relay ticket: smr1' "$LAB_OUT/relay.out"
[[ $(head -1 "$LAB_OUT/relay.out") =~ ^relay\ ticket:\ (smr1[A-Za-z0-9_-]+)$ ]] || lab_fail "first line of the relay: $(head -1 "$LAB_OUT/relay.out")"
ticket=${BASH_REMATCH[1]}
began=$(lab_now_ms)

# 2. a$ sudo shadowmesh up --relay smr1…
start a a shadowmesh up --relay "$ticket"
lab_wait 10 "the line for the next host" grep -q '^join with: sudo shadowmesh up smi1[A-Za-z0-9_-]*$' "$LAB_OUT/a.out"
line=$(sed -n 's/^join with: //p' "$LAB_OUT/a.out")
step "a says: join with: ${line:0:28}…"

# 3. b$ the line that a printed, as it is
read -ra words <<<"${line#sudo }"
start b b "${words[@]}"
lab_wait 20 "a to be connected to b" lab_connected a 1
lab_wait 20 "b to be connected to a" lab_connected b 1
lab_measure "first command of a to connected" "$(($(lab_now_ms) - began))" ms
lab_direct a b
lab_measure "first command of a to direct" "$(($(lab_now_ms) - began))" ms

# 4. a$ ping <address of b>
address=$(lab_address b)
grep -qF "$address" "$LAB_OUT/b.out" || lab_fail "b's up does not print its address $address"
lab_expect "ping $address answers, without loss" on a ping -c 5 -i 0.2 -W 2 "$address"
lab_expect "b reaches a too" on b ping -c 3 -i 0.2 -W 2 "$(lab_address a)"
lab_expect "shadowmesh ping b" on a shadowmesh ping b -c 2
for words in 'connecting to relay' 'connected to relay' 'waiting for peers' 'connected to b .*via relay-ws'; do
    lab_expect "up says: $words" grep -q "$words" "$LAB_OUT/a.log"
done
if grep -q $'[\r\x1b]' "$LAB_OUT/a.log"; then lab_fail "a spinner or colours where there is no terminal"; fi
lab_expect "a knows b by its host name" lab_status a '.peers[] | select(.name == "b") or error'
lab_expect "up says: connected directly" grep -q 'connected to b .*via direct-udp' "$LAB_OUT/a.log"
lab_expect "ping names the direct path" on a sh -c 'shadowmesh ping b -c 1 | grep -q "via direct-udp 198.51.100.12:"'
lab_expect "with ML-KEM-768" lab_status a '.peers[0].handshake.kem == "ML-KEM-768" or error'
lab_expect "the same cipher at both ends" test "$(lab_status a '.peers[0].handshake.cipher')" = "$(lab_status b '.peers[0].handshake.cipher')"

# The invite is a secret, and printed is not logged.
invite=${words[-1]}
if grep -qF "${invite:0:24}" "$LAB_OUT"/*.log; then lab_fail "the invite is in a log"; fi
if grep -qF "${invite:0:24}" "$LAB_OUT/b.out"; then lab_fail "b prints the invite it was given"; fi
for host in a b; do
    modes=$(find "$LAB_DIR/$host/var-lib/shadowmesh" -type f -perm /077)
    [[ -z $modes ]] || lab_fail "state that others may read on $host: $modes"
done

# The next time plain `up` is enough.
stop b
start b b shadowmesh up
lab_recovers "plain up to frames" a b 2000
lab_oracle frames a b --seconds 2
