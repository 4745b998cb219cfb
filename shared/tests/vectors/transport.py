#!/usr/bin/env python3
"""Writes transport.json, or with --check compares it: transport packets (docs/protocol.md §5), made independently.

ChaCha20-Poly1305 is that of primitives.py; AES-256-GCM is below, written from FIPS 197 and NIST SP 800-38D and checked
against a vector of the latter's designers before it is used. Needs only Python 3.9 or later.
"""

import hashlib
import json
import pathlib
import sys

sys.dont_write_bytecode = True  # leaves no __pycache__ beside the vectors

from primitives import chacha20_poly1305_seal

HERE = pathlib.Path(__file__).parent
CHACHA, AES = 1, 2
DATA, CONTROL = 0xC0, 0xC1


def xtime(a):
    return (a << 1 ^ (0x11B if a & 0x80 else 0)) & 0xFF


def gf_multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = xtime(a), b >> 1
    return product


def sbox_entry(a):
    inverse = next((b for b in range(256) if gf_multiply(a, b) == 1), 0)
    out = 0x63
    for shift in range(5):
        out ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
    return out


SBOX = [sbox_entry(a) for a in range(256)]


def aes256_round_keys(key):
    words = [key[i : i + 4] for i in range(0, 32, 4)]
    rcon = 1
    for i in range(8, 60):
        word = words[i - 1]
        if i % 8 == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ rcon]) + word[1:]
            rcon = xtime(rcon)
        elif i % 8 == 4:
            word = bytes(SBOX[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(words[i - 8], word)))
    return [b"".join(words[i : i + 4]) for i in range(0, 60, 4)]


def aes_block(round_keys, block):
    state = bytes(a ^ b for a, b in zip(block, round_keys[0]))
    for number, round_key in enumerate(round_keys[1:], 1):
        state = bytes(SBOX[b] for b in state)
        state = bytes(state[(i + 4 * (i % 4)) % 16] for i in range(16))
        if number < 14:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column : column + 4]
                for i in range(4):
                    mixed.append(
                        xtime(a[i]) ^ xtime(a[(i + 1) % 4]) ^ a[(i + 1) % 4] ^ a[(i + 2) % 4] ^ a[(i + 3) % 4]
                    )
            state = bytes(mixed)
        state = bytes(a ^ b for a, b in zip(state, round_key))
    return state


def ghash_multiply(x, y):
    product = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def padded(data):
    return data + bytes(-len(data) % 16)


def aes256_gcm_seal(key, nonce, aad, plaintext):
    round_keys = aes256_round_keys(key)
    counters = (nonce + i.to_bytes(4, "big") for i in range(1, 1 << 32))
    mask = aes_block(round_keys, next(counters))
    stream = b"".join(aes_block(round_keys, next(counters)) for _ in range(0, len(plaintext), 16))
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, stream))
    h = int.from_bytes(aes_block(round_keys, bytes(16)), "big")
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    data, tag = padded(aad) + padded(ciphertext) + lengths, 0
    for i in range(0, len(data), 16):
        tag = ghash_multiply(tag ^ int.from_bytes(data[i : i + 16], "big"), h)
    return ciphertext + bytes(a ^ b for a, b in zip(tag.to_bytes(16, "big"), mask))


def check_aes_gcm():
    """Test case 16 of McGrew and Viega, The Galois/Counter Mode of Operation, appendix B."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    aad = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    assert aes256_gcm_seal(key, nonce, aad, plaintext).hex().endswith("76fc6ece0f4e1768cddf8853bb2d551b")


def fixed(name, length):
    """Bytes that only their name decides."""
    return hashlib.shake_256(b"shadowmesh test vector: " + name.encode()).digest(length)


def packet(cipher, key, kind, receiver, counter, plaintext):
    header = bytes([kind, 0, 0, 0]) + receiver.to_bytes(4, "big") + counter.to_bytes(8, "big")
    nonce = bytes(4) + counter.to_bytes(8, "big")
    seal = chacha20_poly1305_seal if cipher == CHACHA else aes256_gcm_seal
    return header + seal(key, nonce, header, plaintext)


def cases():
    for cipher in (CHACHA, AES):
        for kind, name in ((DATA, "data"), (CONTROL, "control")):
            for counter, length in ((0, 0), (1, 60), (700, 1414), (2**40 + 5, 64), (2**61 - 1, 15)):
                what = f"transport {cipher} {name} {counter}"
                key = fixed(what + " key", 32)
                receiver = int.from_bytes(fixed(what + " receiver", 4), "big")
                meta = bytes([counter % 4]) if kind == DATA else b""
                plaintext = meta + fixed(what + " text", length)
                yield {
                    "cipher": cipher,
                    "type": name,
                    "key": key.hex(),
                    "receiver": receiver,
                    "counter": str(counter),
                    "plaintext": plaintext.hex(),
                    "packet": packet(cipher, key, kind, receiver, counter, plaintext).hex(),
                }


def main():
    check_aes_gcm()
    text = json.dumps(list(cases()), indent=1) + "\n"
    file = HERE / "transport.json"
    if "--check" in sys.argv:
        if file.read_text() != text:
            sys.exit(f"{file.name} is not what this program writes: run it without --check")
    else:
        file.write_text(text)


main()
