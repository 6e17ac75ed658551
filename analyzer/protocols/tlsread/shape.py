"""What one distinct ClientHello or ServerHello says: names, lists, fingerprints.

Hellos of one program differ in their random parts only. These are cut out before, so this plain reader runs once for
each distinct remainder, not once a connection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

SERVER_NAME, STATUS_REQUEST, SUPPORTED_GROUPS, EC_POINT_FORMATS, SIGNATURE_ALGORITHMS, ALPN = 0, 5, 10, 11, 13, 16
SIGNED_CERTIFICATE_TIMESTAMP, PADDING, ENCRYPT_THEN_MAC, EXTENDED_MASTER_SECRET = 18, 21, 22, 23
SESSION_TICKET, PRE_SHARED_KEY, EARLY_DATA, SUPPORTED_VERSIONS, COOKIE = 35, 41, 42, 43, 44
PSK_KEY_EXCHANGE_MODES, SIGNATURE_ALGORITHMS_CERT, KEY_SHARE, RENEGOTIATION_INFO = 45, 50, 51, 65281
"""ExtensionType (IANA TLS ExtensionType registry)."""

UNKNOWN_STACK, GO, OPENSSL, OTHER_STACK = 0, 1, 2, 3

_GO_ALWAYS: Final = frozenset(
    {STATUS_REQUEST, SUPPORTED_GROUPS, EC_POINT_FORMATS, SIGNATURE_ALGORITHMS, SIGNED_CERTIFICATE_TIMESTAMP}
    | {RENEGOTIATION_INFO}
)
_GO_MAY: Final = _GO_ALWAYS | {
    SERVER_NAME, ALPN, EXTENDED_MASTER_SECRET, SUPPORTED_VERSIONS, COOKIE, SIGNATURE_ALGORITHMS_CERT, KEY_SHARE
}  # fmt: skip
"""Go crypto/tls handshake_messages.go `clientHelloMsg.marshal`: without a session cache, which client-go never sets,
it offers neither session tickets nor pre-shared keys."""

GO_JA3S: Final = frozenset({"f4febc55ea12b31ae17cfb7e614afda8", "eb1d94daa7e0344597e756a1fb6e7054"})
"""JA3S of a Go TLS 1.3 server with AES-128-GCM and with AES-256-GCM (supported_versions before key_share)."""

MAX_NAME: Final = 512
"""Characters kept of a name from the wire."""


@dataclass(frozen=True, slots=True)
class ClientShape:
    """A ClientHello without its random parts."""

    sni: str | None = None
    alpn: str | None = None
    groups: str | None = None
    ja3: str = ""
    ja4: str = ""
    max_offered: int = 0
    stack: int = UNKNOWN_STACK
    session_resumption: bool = False


@dataclass(frozen=True, slots=True)
class ServerShape:
    """A ServerHello without its random parts."""

    version: int = 0
    cipher_suite: int = 0
    alpn: str | None = None
    group: int = 0
    ja3s: str = ""
    stack: int = UNKNOWN_STACK
    pre_shared_key: bool = False


def _grease(value: int) -> bool:
    """RFC 8701 2: 0x0A0A, 0x1A1A ... 0xFAFA."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


def _numbers(octets: bytes, width: int = 2) -> list[int]:
    return [int.from_bytes(octets[i : i + width], "big") for i in range(0, len(octets) - width + 1, width)]


def _vector(octets: bytes, at: int, width: int) -> tuple[bytes, int]:
    """A vector with a length of `width` octets in front, and where it ends; cut where the octets end."""
    length = int.from_bytes(octets[at : at + width], "big")
    stop = at + width + length
    return octets[at + width : stop], stop


def _extensions(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(octets):
        kind = int.from_bytes(octets[at : at + 2], "big")
        body, at = _vector(octets, at + 2, 2)
        yield kind, body


def text(octets: bytes) -> str:
    """Text of untrusted octets: Latin-1, so that none is lost, and bounded."""
    return octets[:MAX_NAME].decode("latin-1")


def _names(octets: bytes) -> list[bytes]:
    listed, _ = _vector(octets, 0, 2)
    names, at = [], 0
    while at < len(listed):
        name, at = _vector(listed, at, 1)
        names.append(name)
    return names


def _hash12(joined: str) -> str:
    return hashlib.sha256(joined.encode()).hexdigest()[:12] if joined else "000000000000"


def _ja4_alpn(names: Sequence[bytes]) -> str:
    if not names or not names[0]:
        return "00"
    first, last = names[0][0], names[0][-1]
    if chr(first).isascii() and chr(first).isalnum() and chr(last).isascii() and chr(last).isalnum():
        return chr(first) + chr(last)
    return f"{first:02x}"[0] + f"{last:02x}"[1]


def _hex(values: Iterable[int]) -> str:
    return ",".join(f"{v:04x}" for v in values)


def _ja4(version: int, ciphers: list[int], kinds: list[int], alpn: Sequence[bytes], signatures: list[int]) -> str:
    """JA4, the TLS client fingerprint (FoxIO, BSD-3-Clause; technical_details/JA4.md)."""
    names = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
    suites = [c for c in ciphers if not _grease(c)]
    extensions = [k for k in kinds if not _grease(k)]
    head = (
        f"t{names.get(version, '00')}{'d' if SERVER_NAME in kinds else 'i'}"
        f"{min(len(suites), 99):02d}{min(len(extensions), 99):02d}{_ja4_alpn(alpn)}"
    )
    hashed = _hex(sorted(k for k in extensions if k not in (SERVER_NAME, ALPN)))
    kept = [s for s in signatures if not _grease(s)]
    tail = f"{hashed}_{_hex(kept)}" if kept else hashed
    return f"{head}_{_hash12(_hex(sorted(suites)))}_{_hash12(tail) if extensions else '000000000000'}"


def _stack(kinds: list[int]) -> int:
    present = set(kinds)
    if present >= _GO_ALWAYS and present <= _GO_MAY:
        return GO
    # OpenSSL offers encrypt_then_mac (s_client, curl, Python) and TLS libraries of browsers and Java do not.
    if ENCRYPT_THEN_MAC in present:
        return OPENSSL
    return OTHER_STACK if present else UNKNOWN_STACK


def read_client_shape(body: bytes) -> ClientShape:
    """Read a ClientHello body (RFC 8446 4.1.2) that was captured whole; malformed parts read as absent."""
    legacy = int.from_bytes(body[:2], "big")
    _, at = _vector(body, 34, 1)
    cipher_octets, at = _vector(body, at, 2)
    _, at = _vector(body, at, 1)
    block, _ = _vector(body, at, 2)
    kinds: list[int] = []
    found: dict[int, bytes] = {}
    for kind, content in _extensions(block):
        kinds.append(kind)
        found.setdefault(kind, content)
    ciphers = _numbers(cipher_octets)
    groups = _numbers(_vector(found.get(SUPPORTED_GROUPS, b""), 0, 2)[0])
    formats = list(_vector(found.get(EC_POINT_FORMATS, b""), 0, 1)[0])
    signatures = _numbers(_vector(found.get(SIGNATURE_ALGORITHMS, b""), 0, 2)[0])
    alpn = _names(found[ALPN]) if ALPN in found else []
    versions = [v for v in _numbers(_vector(found.get(SUPPORTED_VERSIONS, b""), 0, 1)[0]) if not _grease(v)]
    # Drafts and experiments (0x7fXX) are no TLS version; the legacy field caps at 1.2 (RFC 8446 4.1.2).
    offered = max((v for v in versions if 0x0300 <= v <= 0x0304), default=legacy)
    ja3 = ",".join(
        [
            str(legacy),
            *("-".join(str(v) for v in values if not _grease(v)) for values in (ciphers, kinds, groups)),
            "-".join(map(str, formats)),
        ]
    )
    sni = found.get(SERVER_NAME)
    name = _vector(sni[3:], 0, 2)[0] if sni is not None and len(sni) > 5 and sni[2] == 0 else None
    return ClientShape(
        sni=text(name) if name is not None else None,
        alpn=",".join(text(n) for n in alpn) if alpn else None,
        groups="-".join(str(g) for g in groups if not _grease(g)) if groups else None,
        ja3=hashlib.md5(ja3.encode(), usedforsecurity=False).hexdigest(),
        ja4=_ja4(offered, ciphers, kinds, alpn, signatures),
        max_offered=offered,
        stack=_stack(kinds),
        session_resumption=bool({SESSION_TICKET, PRE_SHARED_KEY, PSK_KEY_EXCHANGE_MODES} & set(kinds)),
    )


def read_server_shape(body: bytes) -> ServerShape:
    """Read a ServerHello body (RFC 8446 4.1.3) that was captured whole; malformed parts read as absent."""
    legacy = int.from_bytes(body[:2], "big")
    _, at = _vector(body, 34, 1)
    suite = int.from_bytes(body[at : at + 2], "big")
    block, _ = _vector(body, at + 3, 2)
    kinds: list[int] = []
    found: dict[int, bytes] = {}
    for kind, content in _extensions(block):
        kinds.append(kind)
        found.setdefault(kind, content)
    selected = int.from_bytes(found.get(SUPPORTED_VERSIONS, b"")[:2], "big")
    alpn = _names(found[ALPN]) if ALPN in found else []
    ja3s = f"{legacy},{suite},{'-'.join(map(str, kinds))}"
    digest = hashlib.md5(ja3s.encode(), usedforsecurity=False).hexdigest()
    return ServerShape(
        version=selected or legacy,
        cipher_suite=suite,
        alpn=text(alpn[0]) if alpn else None,
        group=int.from_bytes(found.get(KEY_SHARE, b"")[:2], "big"),
        ja3s=digest,
        stack=GO if digest in GO_JA3S else UNKNOWN_STACK,
        pre_shared_key=PRE_SHARED_KEY in found,
    )
