"""Key generation of ML-DSA-65 (FIPS 204), for known-answer files. Clear, not fast, and not constant-time."""

import hashlib

Q, N, D = 8380417, 256, 13
K, L, ETA = 6, 5, 4


def _bit_reverse(i):
    return int(f"{i:08b}"[::-1], 2)


_ZETAS = [pow(1753, _bit_reverse(i), Q) for i in range(N)]


def _ntt(polynomial):
    """Algorithm 41."""
    w, m, step = list(polynomial), 0, 128
    while step >= 1:
        for start in range(0, N, 2 * step):
            m += 1
            for j in range(start, start + step):
                t = _ZETAS[m] * w[j + step] % Q
                w[j], w[j + step] = (w[j] + t) % Q, (w[j] - t) % Q
        step //= 2
    return w


def _inverse_ntt(polynomial):
    """Algorithm 42."""
    w, m, step = list(polynomial), N, 1
    while step < N:
        for start in range(0, N, 2 * step):
            m -= 1
            for j in range(start, start + step):
                t = w[j]
                w[j] = (t + w[j + step]) % Q
                w[j + step] = -_ZETAS[m] * (t - w[j + step]) % Q
        step *= 2
    return [x * pow(N, -1, Q) % Q for x in w]


def _uniform(seed: bytes):
    """A polynomial of the matrix, in the domain of the NTT (algorithm 30)."""
    stream, found, at = hashlib.shake_128(seed).digest(3 * 1024), [], 0
    while len(found) < N:
        value = int.from_bytes(stream[at : at + 3], "little") & 0x7FFFFF
        at += 3
        if value < Q:
            found.append(value)
    return found


def _small(seed: bytes):
    """A polynomial with coefficients of at most ETA (algorithm 31)."""
    found = []
    for byte in hashlib.shake_256(seed).digest(1024):
        found += [ETA - half for half in (byte & 15, byte >> 4) if half < 2 * ETA + 1]
    return found[:N]


def _high(value):
    """The part of a coefficient that is published (algorithm 35)."""
    low = value % (1 << D)
    if low > 1 << (D - 1):
        low -= 1 << D
    return (value - low) >> D


def _pack(values, bits) -> bytes:
    number = sum(value << (bits * i) for i, value in enumerate(values))
    return number.to_bytes(len(values) * bits // 8, "little")


def mldsa65_public(seed: bytes) -> bytes:
    """The public key of a 32-byte seed (algorithm 6)."""
    expanded = hashlib.shake_256(seed + bytes([K, L])).digest(128)
    rho, rho_prime = expanded[:32], expanded[32:96]
    s1 = [_ntt(_small(rho_prime + r.to_bytes(2, "little"))) for r in range(L)]
    s2 = [_small(rho_prime + r.to_bytes(2, "little")) for r in range(L, L + K)]
    public = rho
    for r in range(K):
        total = [0] * N
        for s in range(L):
            a = _uniform(rho + bytes([s, r]))
            total = [(x + y * z) % Q for x, y, z in zip(total, a, s1[s])]
        t = [(x + y) % Q for x, y in zip(_inverse_ntt(total), s2[r])]
        public += _pack([_high(x) for x in t], 10)
    return public
