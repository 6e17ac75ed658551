"""TLS records and messages from their RFC names, for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from analyzer.protocols.tls import read_tls
from analyzer.schema import TLS_STRINGS, StreamHeads, TlsReading

CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
AES_128_GCM = 0x1301
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
GO_1_27_KINDS = (11, 65281, 23, 18, 5, 10, 13, 50, 16, 43, 51)


def record(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    return struct.pack(">BHH", kind, version, len(body)) + body


def sealed(*lengths: int) -> bytes:
    """Application data records of these lengths, filled with octets that are no TLS."""
    return b"".join(record(DATA, bytes((i * 37 + n) & 0xFF for i in range(n))) for n in lengths)


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3) + body


def vector(width: int, body: bytes) -> bytes:
    return len(body).to_bytes(width) + body


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def extension(kind: int, body: bytes = b"") -> bytes:
    return numbers(kind) + vector(2, body)


def server_name(name: bytes) -> bytes:
    return extension(0, vector(2, b"\0" + vector(2, name)))


def alpn(*names: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, n) for n in names)))


def hello_extensions(
    name: bytes | None = None,
    protocols: Sequence[bytes] = (b"h2", b"http/1.1"),
    groups: Sequence[int] = (4588, 29, 23),
    versions: Sequence[int] = (0x0304, 0x0303),
) -> list[bytes]:
    """Extensions of a ClientHello like Go 1.27's."""
    return [
        *([server_name(name)] if name is not None else []),
        extension(11, b"\1\0"),
        extension(65281, b"\0"),
        extension(23),
        extension(18),
        extension(5, b"\1\0\0\0\0"),
        extension(10, vector(2, numbers(*groups))),
        extension(13, vector(2, numbers(0x0804, 0x0403))),
        extension(50, vector(2, numbers(0x0804, 0x0403))),
        *([alpn(*protocols)] if protocols else []),
        extension(43, vector(1, numbers(*versions))),
        extension(51, vector(2, numbers(29) + vector(2, bytes(32)))),
    ]


def client_hello(
    extensions: Sequence[bytes] | None = None,
    ciphers: Sequence[int] = (0xC02B, 0xC02F, 0x1301, 0x1302, 0x1303),
    version: int = 0x0303,
    random: bytes = bytes(range(32)),
) -> bytes:
    """A ClientHello message."""
    listed = b"".join(hello_extensions() if extensions is None else extensions)
    body = numbers(version) + random + vector(1, bytes(32)) + vector(2, numbers(*ciphers)) + b"\1\0"
    return message(1, body + (vector(2, listed) if extensions is None or extensions else b""))


def server_hello(
    cipher: int = AES_128_GCM,
    extensions: Sequence[bytes] = (extension(43, b"\3\4"), extension(51, numbers(29) + vector(2, bytes(32)))),
    version: int = 0x0303,
    random: bytes = bytes(range(32, 64)),
) -> bytes:
    """A ServerHello message."""
    body = numbers(version) + random + vector(1, bytes(32)) + numbers(cipher) + b"\0"
    return message(2, body + (vector(2, b"".join(extensions)) if extensions else b""))


CHANGE = record(CCS, b"\1")


def connection_13(
    client: Sequence[int], server: Sequence[int], hello: bytes | None = None, answer: bytes | None = None
) -> dict[int, bytes]:
    """A connection of TLS 1.3 by the record lengths of each side's encrypted records."""
    return {
        0: record(HANDSHAKE, hello or client_hello(), 0x0301) + (CHANGE + sealed(*client) if client else b""),
        1: record(HANDSHAKE, answer or server_hello()) + CHANGE + sealed(*server),
    }


def read(heads: StreamHeads, closed: tuple[int, int] = (0, 0)) -> TlsReading:
    """Facts of all flows of `heads`."""
    count = len(heads) // 2
    return read_tls(heads, np.arange(count), np.tile(np.array(closed, np.uint8), (count, 1)))


def fact(reading: TlsReading, column: str, row: int = 0) -> Any:
    """One fact; text for string columns."""
    value = getattr(reading.facts, column)[row].item()
    if column in TLS_STRINGS:
        return reading.strings[value] if value >= 0 else None
    return value


def table(reading: TlsReading) -> list[dict[str, Any]]:
    """All facts as rows of plain values, strings and certificates in place of their numbers."""
    names = list(type(reading.facts).__annotations__)
    rows = [{name: fact(reading, name, row) for name in names} for row in range(len(reading.facts))]
    for row in rows:
        for chain in ("client_chain", "server_chain"):
            number = row[chain]
            row[chain] = [reading.certificates[i].sha256 for i in reading.chains[number]] if number >= 0 else None
    return rows
