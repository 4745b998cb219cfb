"""The primitives of the handshake, written from their specifications with Python's standard library only.

Slow, not constant-time, for test vectors only: they exist so that the vectors do not come from the libraries under test.
"""

import hashlib
import hmac

# X25519, RFC 7748 §5

P = 2**255 - 19


def x25519(scalar: bytes, point: bytes) -> bytes:
    k = bytearray(scalar)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    k = int.from_bytes(k, "little")
    u = int.from_bytes(point, "little") % 2**255 % P
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def x25519_public(scalar: bytes) -> bytes:
    return x25519(scalar, (9).to_bytes(32, "little"))


# Ed25519, RFC 8032 §5.1

D = -121665 * pow(121666, P - 2, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493
BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
BASE = (BASE_X, BASE_Y)


def _add(a, b):
    t = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + t, P - 2, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, P - 2, P)
    return x % P, y % P


def _multiply(k, point):
    result = (0, 1)
    while k:
        if k & 1:
            result = _add(result, point)
        point, k = _add(point, point), k >> 1
    return result


def _encode_point(point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _ed25519_expand(seed: bytes):
    h = hashlib.sha512(seed).digest()
    return int.from_bytes(h[:32], "little") & (2**254 - 8) | 2**254, h[32:]


def ed25519_public(seed: bytes) -> bytes:
    return _encode_point(_multiply(_ed25519_expand(seed)[0], BASE))


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    scalar, prefix = _ed25519_expand(seed)
    public = ed25519_public(seed)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ORDER
    point = _encode_point(_multiply(r, BASE))
    k = int.from_bytes(hashlib.sha512(point + public + message).digest(), "little")
    return point + ((r + k * scalar) % ORDER).to_bytes(32, "little")


# ChaCha20-Poly1305, RFC 8439 §2


def _rotate(x, n):
    return (x << n | x >> 32 - n) & 0xFFFFFFFF


def _quarter(s, a, b, c, d):
    for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = s[x] + s[y] & 0xFFFFFFFF
        s[z] = _rotate(s[z] ^ s[x], n)


def _chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    start = b"expand 32-byte k" + key + counter.to_bytes(4, "little") + nonce
    words = [int.from_bytes(start[i : i + 4], "little") for i in range(0, 64, 4)]
    s = list(words)
    for _ in range(10):
        for i in range(4):
            _quarter(s, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            _quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return b"".join((a + b & 0xFFFFFFFF).to_bytes(4, "little") for a, b in zip(s, words))


def _poly1305(key: bytes, message: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for i in range(0, len(message), 16):
        total = (total + int.from_bytes(message[i : i + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def chacha20_poly1305_seal(key: bytes, nonce: bytes, associated: bytes, plaintext: bytes) -> bytes:
    stream = b"".join(_chacha20_block(key, 1 + i, nonce) for i in range(len(plaintext) // 64 + 1))
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, stream))
    padded = b"".join(part + bytes(-len(part) % 16) for part in (associated, ciphertext))
    lengths = len(associated).to_bytes(8, "little") + len(ciphertext).to_bytes(8, "little")
    return ciphertext + _poly1305(_chacha20_block(key, 0, nonce)[:32], padded + lengths)


# HMAC and HKDF, RFC 2104 and RFC 5869; Noise §4.3 for BLAKE2s


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def hkdf_sha256(salt: bytes, secret: bytes, info: bytes) -> bytes:
    return hmac_sha256(hmac_sha256(salt, secret), info + b"\1")


def hmac_blake2s(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.blake2s).digest()


def noise_hkdf(chaining_key: bytes, secret: bytes, outputs: int):
    temporary, result = hmac_blake2s(chaining_key, secret), [b""]
    for i in range(outputs):
        result.append(hmac_blake2s(temporary, result[-1] + bytes([i + 1])))
    return result[1:]


# ML-KEM-768, FIPS 203 (k = 3, eta1 = eta2 = 2, du = 10, dv = 4)

Q, K = 3329, 3


def _bit_reverse(i):
    return int(f"{i:07b}"[::-1], 2)


ZETA = [pow(17, _bit_reverse(i), Q) for i in range(128)]
GAMMA = [pow(17, 2 * _bit_reverse(i) + 1, Q) for i in range(128)]


def _ntt(f):
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, 256, 2 * length):
            zeta, i = ZETA[i], i + 1
            for j in range(start, start + length):
                t = zeta * f[j + length]
                f[j + length], f[j] = (f[j] - t) % Q, (f[j] + t) % Q
        length //= 2
    return f


def _inverse_ntt(f):
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, 256, 2 * length):
            zeta, i = ZETA[i], i - 1
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, zeta * (f[j + length] - t) % Q
        length *= 2
    return [x * 3303 % Q for x in f]


def _multiply_ntt(f, g):
    h = []
    for i in range(128):
        a, b, c, d = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
        h += [(a * c + b * d * GAMMA[i]) % Q, (a * d + b * c) % Q]
    return h


def _sum(*polynomials):
    return [sum(column) % Q for column in zip(*polynomials)]


def _sample_ntt(seed: bytes):
    stream, out, i = hashlib.shake_128(seed).digest(3 * 1024), [], 0
    while len(out) < 256:
        a, b, c = stream[i : i + 3]
        out += [x for x in (a | (b & 15) << 8, b >> 4 | c << 4) if x < Q]
        i += 3
    return out[:256]


def _bits(data: bytes):
    return [byte >> i & 1 for byte in data for i in range(8)]


def _sample_cbd(seed: bytes, n: int):
    b = _bits(hashlib.shake_256(seed + bytes([n])).digest(128))
    return [(b[4 * i] + b[4 * i + 1] - b[4 * i + 2] - b[4 * i + 3]) % Q for i in range(256)]


def _encode(f, d) -> bytes:
    total = sum(x << d * i for i, x in enumerate(f))
    return total.to_bytes(32 * d, "little")


def _decode(data: bytes, d):
    total = int.from_bytes(data, "little")
    return [total >> d * i & (1 << d) - 1 for i in range(256)]


def _compress(f, d):
    return [((x << d) + Q // 2) // Q % (1 << d) for x in f]


def _decompress(f, d):
    return [(x * Q + (1 << d - 1)) >> d for x in f]


def _matrix(rho: bytes):
    return [[_sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]


def _g(data: bytes):
    digest = hashlib.sha3_512(data).digest()
    return digest[:32], digest[32:]


def mlkem768_keygen(d: bytes, z: bytes):
    """The encapsulation key and the expanded decapsulation key (algorithms 13 and 16)."""
    rho, sigma = _g(d + bytes([K]))
    a = _matrix(rho)
    s = [_ntt(_sample_cbd(sigma, i)) for i in range(K)]
    e = [_ntt(_sample_cbd(sigma, K + i)) for i in range(K)]
    t = [_sum(*(_multiply_ntt(a[i][j], s[j]) for j in range(K)), e[i]) for i in range(K)]
    ek = b"".join(_encode(x, 12) for x in t) + rho
    return ek, b"".join(_encode(x, 12) for x in s) + ek + hashlib.sha3_256(ek).digest() + z


def mlkem768_encapsulate(ek: bytes, m: bytes):
    """The ciphertext and the shared secret (algorithms 14 and 17)."""
    shared, r = _g(m + hashlib.sha3_256(ek).digest())
    t = [_decode(ek[384 * i : 384 * (i + 1)], 12) for i in range(K)]
    a = _matrix(ek[384 * K :])
    y = [_ntt(_sample_cbd(r, i)) for i in range(K)]
    e1 = [_sample_cbd(r, K + i) for i in range(K)]
    e2 = _sample_cbd(r, 2 * K)
    u = [
        _sum(_inverse_ntt(_sum(*(_multiply_ntt(a[j][i], y[j]) for j in range(K)))), e1[i])
        for i in range(K)
    ]
    mu = _decompress(_decode(m, 1), 1)
    v = _sum(_inverse_ntt(_sum(*(_multiply_ntt(t[i], y[i]) for i in range(K)))), e2, mu)
    ciphertext = b"".join(_encode(_compress(x, 10), 10) for x in u) + _encode(_compress(v, 4), 4)
    return ciphertext, shared
