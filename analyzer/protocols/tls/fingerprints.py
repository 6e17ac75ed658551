"""JA3, JA3S and JA4 (client) of one hello.

JA3 and JA3S: https://github.com/salesforce/ja3 (BSD-3-Clause). JA4: https://github.com/FoxIO-LLC/ja4, the TLS client
fingerprint only, which is BSD-3-Clause; the other fingerprints of that suite are not free and not implemented here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

_GREASE_MASK: Final = 0x0F0F
_GREASE: Final = 0x0A0A
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_NOTHING: Final = "000000000000"
_VERSIONS: Final = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
}


def is_grease(value: int) -> bool:
    """Values reserved to be ignored (RFC 8701 2): both octets alike, low nibble 10."""
    return value & _GREASE_MASK == _GREASE and value >> 8 == value & 0xFF


def _dashed(values: Sequence[int]) -> str:
    return "-".join(str(value) for value in values if not is_grease(value))


def ja3(
    version: int, ciphers: Sequence[int], extensions: Sequence[int], groups: Sequence[int], points: Sequence[int]
) -> str:
    """MD5 of version, suites, extension types, groups and point formats, in the order sent, without GREASE."""
    fields = (str(version), _dashed(ciphers), _dashed(extensions), _dashed(groups), "-".join(map(str, points)))
    return hashlib.md5(",".join(fields).encode(), usedforsecurity=False).hexdigest()


def ja3s(version: int, cipher: int, extensions: Sequence[int]) -> str:
    """MD5 of the ServerHello's version, suite and extension types."""
    text = f"{version},{cipher},{'-'.join(map(str, extensions))}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _alpn_mark(protocol: bytes) -> str:
    """First and last character of the first protocol offered, of its hexadecimal form unless both are ASCII."""
    if not protocol:
        return "00"
    ends = protocol[:1] + protocol[-1:]
    if ends.isascii() and ends.isalnum():
        return ends.decode("ascii")
    digits = protocol.hex()
    return digits[0] + digits[-1]


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else _NOTHING


def ja4(
    version: int,
    ciphers: Sequence[int],
    extensions: Sequence[int],
    signature_algorithms: Sequence[int],
    first_alpn: bytes,
) -> str:
    """JA4 of a ClientHello over TCP; `version` is the highest offered."""
    suites = [c for c in ciphers if not is_grease(c)]
    kinds = [e for e in extensions if not is_grease(e)]
    head = (
        f"t{_VERSIONS.get(version, '00')}{'d' if _SERVER_NAME in kinds else 'i'}"
        f"{min(len(suites), 99):02d}{min(len(kinds), 99):02d}{_alpn_mark(first_alpn)}"
    )
    hashed = ",".join(f"{k:04x}" for k in sorted(kinds) if k not in (_SERVER_NAME, _ALPN))
    algorithms = ",".join(f"{a:04x}" for a in signature_algorithms if not is_grease(a))
    tail = f"{hashed}_{algorithms}" if algorithms else hashed
    return f"{head}_{_short_hash(','.join(f'{c:04x}' for c in sorted(suites)))}_{_short_hash(tail)}"
