#!/usr/bin/env python3
"""Writes the known-answer files of this directory, or with --check compares them: the protocol once more, independently.

Everything follows from fixed strings, so the files are the same on every machine. Nothing is shared with the Rust code:
the primitives are in primitives.py and mldsa.py, the rest is docs/protocol.md read a second time. Needs only Python 3.9 or later.
"""

import hashlib
import json
import pathlib
import sys

sys.dont_write_bytecode = True  # leaves no __pycache__ beside the vectors

from mldsa import mldsa65_public
from primitives import (
    chacha20_poly1305_seal,
    ed25519_public,
    ed25519_sign,
    hkdf_sha256,
    hmac_sha256,
    mlkem768_encapsulate,
    mlkem768_keygen,
    noise_hkdf,
    x25519,
    x25519_public,
)

HERE = pathlib.Path(__file__).parent
CHACHA, AES = 1, 2


def fixed(name: str) -> bytes:
    """32 bytes that only their name decides."""
    return hashlib.sha256(b"shadowmesh test vector: " + name.encode()).digest()


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


# protocol §1.2


class Network:
    def __init__(self, secret: bytes, generation: int):
        def key(label):
            return hkdf_sha256(b"shadowmesh network v1", secret, label + u32(generation))

        self.secret, self.generation = secret, generation
        self.psk, self.mac1, self.sign_seed = key(b"psk"), key(b"mac1"), key(b"sign")
        self.public = ed25519_public(self.sign_seed)
        self.id = hashlib.sha256(b"shadowmesh network id v1" + self.public).digest()

    def mac(self, packet: bytes) -> bytes:
        return hmac_sha256(self.mac1, packet)[:16]

    def register(self, link_hash: bytes, node: bytes) -> bytes:
        message = b"shadowmesh register v1" + link_hash + self.id + node
        return ed25519_sign(self.sign_seed, message)


# protocol §1.5


def address_hash(label: bytes, x: bytes) -> bytes:
    return hashlib.sha256(b"shadowmesh " + label + b"\0" + x).digest()


def mac_address(node: bytes) -> bytes:
    h = address_hash(b"mac", node)
    return bytes([h[0] & 0xFE | 0x02]) + h[1:6]


def ipv4(network_id: bytes, node: bytes, attempt: int) -> bytes:
    x = address_hash(b"ipv4 net", network_id)[0]
    return bytes([10, x]) + address_hash(b"ipv4 host", node + bytes([attempt]))[:2]


def ipv6(network_id: bytes, node: bytes) -> bytes:
    prefix = b"\xfd" + address_hash(b"ipv6 net", network_id)[:5] + b"\0\0"
    return prefix + address_hash(b"ipv6 host", node)[:8]


# protocol §4.6 and §3.2


def session_key(split: bytes, label: bytes, cipher: int) -> bytes:
    return hkdf_sha256(b"shadowmesh session v1", split, label + bytes([cipher]))


# Noise revision 34 §5, with the hfs tokens e1 and ekem1


class SymmetricState:
    def __init__(self, name: bytes, prologue: bytes):
        self.h = name.ljust(32, b"\0") if len(name) <= 32 else hashlib.blake2s(name).digest()
        self.ck, self.key, self.counter = self.h, None, 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes):
        self.h = hashlib.blake2s(self.h + data).digest()

    def mix_key(self, secret: bytes):
        self.ck, self.key = noise_hkdf(self.ck, secret, 2)
        self.counter = 0

    def mix_key_and_hash(self, secret: bytes):
        self.ck, temporary, self.key = noise_hkdf(self.ck, secret, 3)
        self.mix_hash(temporary)
        self.counter = 0

    def seal(self, plaintext: bytes) -> bytes:
        nonce = bytes(4) + self.counter.to_bytes(8, "little")
        sealed = chacha20_poly1305_seal(self.key, nonce, self.h, plaintext)
        self.counter += 1
        self.mix_hash(sealed)
        return sealed

    def split(self):
        return noise_hkdf(self.ck, b"", 2)


def handshake(parties, prologue: bytes, psk, payloads):
    """Both messages of IKhfs, with psk0 when a psk is given; the transcript's hash and the two split keys."""
    modifiers = "+psk0" if psk else ""
    name = f"Noise_IKhfs{modifiers}_25519+MLKEM768_ChaChaPoly_BLAKE2s".encode()
    i, r = parties["initiator_secret"], parties["responder_secret"]
    ie, re = parties["initiator_ephemeral"], parties["responder_ephemeral"]
    public = {key: x25519_public(key) for key in (i, r, ie, re)}
    ek, _ = mlkem768_keygen(parties["kem_d"], parties["kem_z"])
    state = SymmetricState(name, prologue)
    state.mix_hash(public[r])

    def ephemeral(key):
        state.mix_hash(public[key])
        if psk:
            state.mix_key(public[key])
        return public[key]

    # -> psk, e, es, e1, s, ss
    if psk:
        state.mix_key_and_hash(psk)
    first = ephemeral(ie)
    state.mix_key(x25519(ie, public[r]))
    first += state.seal(ek) + state.seal(public[i])
    state.mix_key(x25519(i, public[r]))
    first += state.seal(payloads[0])

    # <- e, ee, ekem1, se
    second = ephemeral(re)
    state.mix_key(x25519(re, public[ie]))
    ciphertext, shared = mlkem768_encapsulate(ek, parties["kem_m"])
    second += state.seal(ciphertext)
    state.mix_key(shared)
    state.mix_key(x25519(re, public[i]))
    second += state.seal(payloads[1])
    return first, second, state.h, state.split()


# CBOR (RFC 8949), as much as a payload needs


def cbor_head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    size, code = (1, 24) if value < 256 else (2, 25)
    return bytes([major << 5 | code]) + value.to_bytes(size, "big")


def payload(ciphers: int, mtu: int, name: str, association: bytes, program: str) -> bytes:
    def text(value):
        return cbor_head(3, len(value.encode())) + value.encode()

    return (
        cbor_head(4, 5)
        + cbor_head(0, ciphers)
        + cbor_head(0, mtu)
        + text(name)
        + cbor_head(2, len(association))
        + association
        + text(program)
    )


def parties(context: str):
    names = "initiator_secret responder_secret initiator_ephemeral responder_ephemeral kem_d kem_z kem_m"
    return {name: fixed(f"{context} {name}") for name in names.split()}


def expanded(keys):
    """What the libraries need of the KEM, which take no seeds: the expanded key, the ciphertext, the secret."""
    ek, dk = mlkem768_keygen(keys["kem_d"], keys["kem_z"])
    ciphertext, shared = mlkem768_encapsulate(ek, keys["kem_m"])
    return {"kem_secret": dk, "kem_ciphertext": ciphertext, "kem_shared": shared}


def derivation():
    cases = []
    for name, generation in (("network one", 0), ("network one", 1), ("network two", 0xFFFFFFFF)):
        network = Network(fixed(name), generation)
        node_secret = fixed(f"node of {name} {generation}")
        node, link_hash = x25519_public(node_secret), fixed("link hash")
        cases.append(
            {
                "network_secret": network.secret,
                "generation": generation,
                "psk": network.psk,
                "mac1_key": network.mac1,
                "sign_seed": network.sign_seed,
                "sign_public": network.public,
                "network_id": network.id,
                "mac1_of_abc": network.mac(b"abc"),
                "node_secret": node_secret,
                "node": node,
                "link_hash": link_hash,
                "register_signature": network.register(link_hash, node),
                "mac": mac_address(node),
                "ipv4": [ipv4(network.id, node, attempt) for attempt in range(4)],
                "ipv6": ipv6(network.id, node),
            }
        )
    return cases


def peer_handshake(cipher: int):
    keys = parties(f"peer {cipher}")
    network = Network(fixed("peer network"), 7)
    prologue = b"shadowmesh peer v1" + bytes([1]) + network.id + u32(network.generation)
    association = fixed("association")[:8]
    offer = payload(CHACHA | AES, 1400, "alpha", association, "0.1.0")
    answer = payload(cipher, 9000, "beta", association, "0.2.0")
    first, second, _, (k_i, k_r) = handshake(keys, prologue, network.psk, (offer, answer))
    initiator_index, responder_index = 0x01020304, 0xA0B0C0D0
    init = bytes([0xC8, 1, 0, 0]) + u32(initiator_index) + first
    response = bytes([0xC9, 1, 0, 0]) + u32(responder_index) + u32(initiator_index) + second
    return {
        **keys,
        **expanded(keys),
        "network_secret": network.secret,
        "generation": network.generation,
        "association": association,
        "initiator_index": initiator_index,
        "responder_index": responder_index,
        "cipher": cipher,
        "offer": offer,
        "answer": answer,
        "init": init + network.mac(init),
        "response": response + network.mac(response),
        "k_i_data": session_key(k_i, b"data", cipher),
        "k_i_control": session_key(k_i, b"control", cipher),
        "k_r_data": session_key(k_r, b"data", cipher),
        "k_r_control": session_key(k_r, b"control", cipher),
    }


def link_handshake():
    keys = parties("link")
    first, second, h, (k_i, k_r) = handshake(keys, b"shadowmesh link v1", None, (b"", b""))
    return {
        **keys,
        **expanded(keys),
        "message_1": first,
        "message_2": second,
        "hash": h,
        "k_i": session_key(k_i, b"link", CHACHA),
        "k_r": session_key(k_r, b"link", CHACHA),
    }


# protocol §8.1


def authority(name: str):
    seed = fixed(name)
    ed25519_seed = hkdf_sha256(b"shadowmesh authority v1", seed, b"ed25519")
    ed25519 = ed25519_public(ed25519_seed)
    ml_dsa = mldsa65_public(hkdf_sha256(b"shadowmesh authority v1", seed, b"ml-dsa-65"))
    fingerprint = hashlib.sha256(b"shadowmesh blob v1" + ed25519 + ml_dsa).digest()
    signed = b"shadowmesh statement v1" + fingerprint + b"message"
    return {
        "seed": seed,
        "ed25519_public": ed25519,
        "ml_dsa_65_public": ml_dsa,
        "fingerprint": fingerprint,
        "ed25519_signature_of_message": ed25519_sign(ed25519_seed, signed),
    }


def main():
    files = {
        "authority.json": [authority("authority one"), authority("authority two")],
        "derivation.json": derivation(),
        "peer_handshake.json": [peer_handshake(CHACHA), peer_handshake(AES)],
        "link_handshake.json": link_handshake(),
    }
    differ = []
    for name, content in files.items():
        text = json.dumps(content, indent=1, default=bytes.hex) + "\n"
        path = HERE / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            differ.append(name)
    if differ:
        sys.exit(f"these vectors are not what generate.py makes: {', '.join(differ)}")


if __name__ == "__main__":
    main()
