"""Legs of one connection are told by sequence numbers and the ClientHello, and by nothing weaker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from analyzer.legs import WINDOW_NS
from analyzer.pipeline import Pipeline
from tests.builders import ACK, FIN, PSH, SYN, Conversation, chunk, ethernet, ipv4, tcp, udp

MS = 1_000_000
CLIENT, VIP, BACKEND, NODE = "10.244.0.7", "10.96.0.1", "172.18.0.2", "172.18.0.3"


def hello(random: bytes = bytes(range(32))) -> bytes:
    body = b"\x03\x03" + random + b"\0\0\x02\x13\x01\x01\0"
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


def leg_of(frames: Sequence[bytes], gap_ns: int = MS) -> list[int]:
    pipeline = Pipeline()
    pipeline.add(chunk(frames, times_ns=[10**18 + i * gap_ns for i in range(len(frames))]))
    legs: list[int] = pipeline.evidence().leg_of.tolist()
    return legs


def connection(
    client: str, server: str, sport: int = 40000, dport: int = 443, **options: tuple[int, int]
) -> Conversation:
    return Conversation(client, server, sport, dport, **options)  # type: ignore[arg-type]


def interleaved(*conversations: Conversation) -> list[bytes]:
    """Each packet on one leg right before the same packet on the next."""
    return [frame for together in zip(*(c.frames for c in conversations), strict=True) for frame in together]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(connection(CLIENT, BACKEND, dport=6443), id="DNAT of a service's virtual address"),
        pytest.param(connection(NODE, BACKEND, 61234, 6443), id="DNAT and masquerade"),
    ],
)
def test_a_handshake_seen_twice(second: Conversation) -> None:
    first = connection(CLIENT, VIP)
    for leg in (first, second):
        leg.open().send(0, hello()).close()

    assert leg_of(interleaved(first, second)) == [-1, 0]


def test_a_proxy_makes_two_connections_even_with_one_tls_handshake() -> None:
    first = connection(CLIENT, VIP).open().send(0, hello()).close()
    second = connection(NODE, BACKEND, isn=(77, 88)).open().send(0, hello()).close()

    assert leg_of(interleaved(first, second)) == [-1, -1]


def test_a_client_hello_tells_where_the_handshake_was_missed() -> None:
    first = connection(CLIENT, VIP).open().send(0, hello()).close()
    second = connection(CLIENT, BACKEND, dport=6443).open().send(0, hello()).close()

    # Of the second leg only the ClientHello and what follows was captured: one side, no SYN.
    assert leg_of([*first.frames, *second.frames[3:]]) == [-1, 0]
    other = connection(CLIENT, BACKEND, dport=6443).open().send(0, hello(bytes(31) + b"\1")).close()
    assert leg_of([*first.frames, *other.frames[3:]]) == [-1, -1]


def test_joined_in_the_middle_both_sides_sequence_numbers_tell() -> None:
    def middle(client: str, server: str, sport: int, dport: int, ack: int = 9_000) -> list[bytes]:
        return [
            ethernet(ipv4(tcp(b"x" * 50, sport, dport, 5_000, ack, ACK | PSH), client, server)),
            ethernet(ipv4(tcp(b"y" * 90, dport, sport, ack, 5_050, ACK | PSH), server, client)),
        ]

    first, second = middle(CLIENT, VIP, 40000, 443), middle(NODE, BACKEND, 61234, 6443)

    assert leg_of([*first, *second]) == [-1, 0]
    assert leg_of([first[0], second[0]]) == [-1, -1], "one side alone is 32 bits of chance"
    assert leg_of([*first, *middle(NODE, BACKEND, 61234, 6443, ack=9_001)]) == [-1, -1]


def test_legs_begin_together() -> None:
    first, second = connection(CLIENT, VIP).open(), connection(CLIENT, BACKEND).open()

    assert leg_of([*first.frames, *second.frames], WINDOW_NS // 3) == [-1, 0]
    assert leg_of([*first.frames, *second.frames], WINDOW_NS // 3 + 1) == [-1, -1]


def test_three_legs_are_one_connection() -> None:
    legs = [connection(CLIENT, server).open().send(0, hello()) for server in (VIP, BACKEND, "10.244.1.9")]

    assert leg_of(interleaved(*legs)) == [-1, 0, 0]


def test_legs_known_by_different_signs_are_joined() -> None:
    whole = connection(CLIENT, VIP).open().send(0, hello()).close()
    again = connection(NODE, BACKEND).open().send(0, hello()).close()
    late = connection(NODE, "10.244.1.9").open().send(0, hello()).close()

    assert leg_of([*whole.frames, *again.frames, *late.frames[3:]]) == [-1, 0, 0]


def test_udp_is_never_stitched() -> None:
    frames = [
        ethernet(ipv4(udp(b"query", 40000, 53), CLIENT, server, 17)) for server in (VIP, BACKEND) for _ in range(2)
    ]

    assert leg_of(frames) == [-1, -1]


def test_two_connections_with_one_client_number_are_apart() -> None:
    first = connection(CLIENT, VIP, isn=(1000, 5000)).open().close(flags=FIN | ACK)
    second = connection(CLIENT, BACKEND, isn=(1000, 6000)).open().close(flags=FIN | ACK)

    assert leg_of(interleaved(first, second)) == [-1, -1]


def test_unanswered_syns_of_a_flood_are_apart() -> None:
    frames = [ethernet(ipv4(tcp(flags=SYN, sport=1024 + i, seq=i * 7919))) for i in range(2000)]

    assert np.array_equal(leg_of(frames, 1000), np.full(2000, -1))
