"""Konnectivity's tunnels as octets: packets in gRPC in HTTP/2, laid out by the names of client.proto."""

from __future__ import annotations

from collections.abc import Sequence

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000000040000000000")
DIAL_REQ, DIAL_RSP, CLOSE_REQ, CLOSE_RSP, DATA = 0, 1, 2, 3, 4


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """Left out where it is zero, as proto3 does."""
    return varint(field << 3) + varint(value) if value else b""


def octets(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value if value else b""


def packet(kind: int, field: int, payload: bytes) -> bytes:
    return number(1, kind) + varint(field << 3 | 2) + varint(len(payload)) + payload


def dial_request(address: str, random: int) -> bytes:
    return packet(DIAL_REQ, 2, octets(1, b"tcp") + octets(2, address.encode()) + number(3, random))


def dial_response(random: int, connection: int = 0, error: str = "") -> bytes:
    return packet(DIAL_RSP, 3, octets(1, error.encode()) + number(2, connection) + number(3, random))


def data(connection: int, content: bytes) -> bytes:
    return packet(DATA, 4, number(1, connection) + octets(3, content))


def close_request(connection: int) -> bytes:
    return packet(CLOSE_REQ, 5, number(1, connection))


def message(content: bytes) -> bytes:
    """Length-Prefixed-Message of gRPC."""
    return b"\0" + len(content).to_bytes(4) + content


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def tunnel(path: str, to_server: Sequence[bytes], to_client: Sequence[bytes], *, size: int = 1 << 14) -> list[bytes]:
    """Both directions of a connection that asks for `path` and then carries packets, in DATA frames of `size`."""
    request = hpack.Encoder().encode(
        [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")]
    )
    response = hpack.Encoder().encode([(":status", "200"), ("content-type", "application/grpc")])
    directions = []
    for opening, packets in (
        (PREFACE + SETTINGS + frame(1, 4, 1, request), to_server),
        (SETTINGS + frame(1, 4, 1, response), to_client),
    ):
        content = b"".join(map(message, packets))
        parts = [content[at : at + size] for at in range(0, len(content), size)]
        directions.append(opening + b"".join(frame(0, 0, 1, part) for part in parts))
    return directions
