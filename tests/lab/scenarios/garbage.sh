# shellcheck shell=bash
# Noise at the relay and at the clients: nothing is answered, nothing falls, and traffic beside it is not touched.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_network

no_port() { [[ -z $(on "$1" ss -Hlntu) ]]; }
# Datagrams sent by the relay; a STUN-shaped request would be answered, noise must not.
answers() { on relay awk '/^Udp: [0-9]/ { print $5 }' /proc/net/snmp; }
before=$(answers)
on a python3 - "$RELAY_ADDRESS" <<'NOISE'
import random, socket, sys
random.seed(7)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(3000):
    body = bytearray(random.randbytes(random.randrange(0, 1400)))
    if body and n % 3 == 0: body[0] |= 0xc0          # looks like a transport packet
    if body and n % 5 == 0: body[0] &= 0x3f          # looks like STUN
    udp.sendto(bytes(body), (sys.argv[1], 8443))
for n in range(60):
    tcp = socket.create_connection((sys.argv[1], 8443), timeout=5)
    if n % 3 == 0: tcp.sendall(random.randbytes(4000))
    elif n % 3 == 1: tcp.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + random.randbytes(2000))
    # and every third is opened and left without a word
    tcp.close()
NOISE
lab_measure "datagrams the relay answered 3000 with" "$(($(answers) - before))" datagrams
[[ $(($(answers) - before)) -lt 10 ]] || lab_fail "the relay answers noise"
lab_oracle during a b --seconds 3 &
oracle=$!
# b has no door at all: it opens a UDP port only while it asks STUN, and listens on no TCP port.
lab_wait 20 "b to have no port open" no_port b
step "b has no port open"
on rb python3 - 192.168.12.2 "8443 41641" <<'NOISE'
import random, socket, sys
random.seed(8)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in map(int, sys.argv[2].split()):
    for n in range(2000):
        body = bytearray(random.randbytes(random.randrange(0, 1400)))
        if body and n % 2: body[0] |= 0xc0
        udp.sendto(bytes(body), (sys.argv[1], port))
NOISE
wait "$oracle" || lab_fail "traffic beside the noise was hurt"
for label in relay a b; do running "$label" || lab_fail "$label fell"; done
if grep -i 'panicked at' "$LAB_OUT"/*.log; then lab_fail "a panic"; fi
lab_all_connected 5
