# shellcheck shell=bash
# Noise at the relay and at the clients: nothing is answered, nothing falls, and traffic beside it is not touched.
. "$(dirname "$0")/../lib.sh"
lab_topology relay_two_nat
lab_network

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
# What b has open is its UDP socket, and where it listens for direct connections. What the router lets in is only what b's own packets asked for, so the noise comes
# from the router itself, in the relay's name and in its own.
# (While it asks the router for a port it has another for a few seconds.)
ports() { on b ss -Hlnu | awk '{ print $4 }' | sed 's/.*://' | sort -u; }
one_port() { [[ $(ports | wc -l) == 1 ]]; }
lab_wait 15 "b to have one UDP port" one_port
port=$(ports)
lab_oracle during a b --seconds 3 &
oracle=$!
[[ $port =~ ^[0-9]+$ ]] || lab_fail "b has not one UDP port but: $port"
listens=$(on b ss -Hlnt | awk '{ print $4 }' | sed 's/.*://')
[[ $listens =~ ^[0-9]+$ ]] || lab_fail "b listens elsewhere than at one TCP port: $listens"
on rb python3 - 192.168.12.2 "$port" <<'NOISE'
import random, socket, sys
random.seed(8)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(4000):
    body = bytearray(random.randbytes(random.randrange(0, 1400)))
    if body and n % 4: body[0] = (0xc0, 0xc1, 0xc2, 0xc8, 0xc9, 0x00, 0x01)[n % 7]
    if len(body) > 4 and n % 3: body[1:4] = bytes(3)
    udp.sendto(bytes(body), (sys.argv[1], int(sys.argv[2])))
udp.settimeout(2)
try:
    answer = udp.recv(2000)
    sys.exit(f"b answers strangers: {answer[:40].hex()}")
except TimeoutError:
    pass
NOISE
on rb python3 - 192.168.12.2 "$listens" <<'NOISE'
import random, socket, sys
random.seed(9)
def connect():
    # One too many is reset, perhaps before this end has looked.
    try:
        tcp = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
    except ConnectionResetError:
        return None
    tcp.settimeout(8)
    return tcp
def ends(tcp, what):
    if tcp is None: return
    try:
        answer = tcp.recv(2000)
    except ConnectionResetError:
        answer = b""
    if answer: sys.exit(f"b answers {what}: {answer[:40].hex()}")
for n in range(60):
    tcp = connect()
    if tcp is None: continue
    try:
        if n % 3 == 0: tcp.sendall(random.randbytes(3000))
        elif n % 3 == 1: tcp.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        else: tcp.sendall((60).to_bytes(4, "big") + b"\x04\0\0\0\0\0\x35\xc1" + random.randbytes(52))
        if n % 3 < 2: ends(tcp, "strangers")
    except (BrokenPipeError, ConnectionResetError):
        pass
    tcp.close()
# One who says nothing is sent away, and so are too many.
silent = [connect() for _ in range(12)]
for tcp in silent: ends(tcp, "silence")
NOISE
# Every one of them, but the empty ones that are nothing at all.
counted() { lab_status b '[.dropped | to_entries[].value] | add'; }
lab_wait 5 "b to have counted the noise" lab_status b '([.dropped | to_entries[].value] | add) >= 3990 or error'
lab_measure "datagrams of 4000 that b counted by cause" "$(counted)" datagrams
wait "$oracle" || lab_fail "traffic beside the noise was hurt"
for label in relay a b; do running "$label" || lab_fail "$label fell"; done
if grep -i 'panicked at' "$LAB_OUT"/*.log; then lab_fail "a panic"; fi
lab_all_connected 5
