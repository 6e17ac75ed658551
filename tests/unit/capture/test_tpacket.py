"""The columns of a ring against a plain walk over it, also where octets look like headers."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture import tpacket
from analyzer.schema import I64, U8
from tests.ring_builder import Packet, ring

SECOND = 1_700_000_000


def plain_walk(octets: U8, blocks: I64) -> list[int]:
    view, found = octets.tobytes(), []
    for block in blocks.tolist():
        count, at = struct.unpack_from("=II", view, block + 12)
        at += block
        for _ in range(count):
            found.append(at)
            at += struct.unpack_from("=I", view, at)[0]
    return found


def looks_like_a_header(leap: int) -> bytes:
    """What somebody may send to be taken for a packet's header, at every alignment."""
    return struct.pack("=IIIIIIHH", leap, SECOND, 5, 20, 20, 1, 82, 96) * 3


payloads = st.one_of(
    st.binary(max_size=90),
    st.tuples(st.binary(max_size=16), st.sampled_from([0, 8, 48, 128, 1 << 31])).map(
        lambda made: made[0] + looks_like_a_header(made[1])
    ),
)
packets = st.builds(
    Packet,
    payloads,
    st.one_of(st.just(0), st.integers(0, 4 * 10**9)).map(lambda ns: SECOND * 10**9 + ns),
)


@given(st.lists(st.lists(packets, max_size=12), min_size=1, max_size=4), st.booleans())
def test_packets_are_found_as_a_walk_finds_them(blocks: list[list[Packet]], cooked: bool) -> None:
    octets, where = ring(blocks, cooked=cooked)

    positions = tpacket.find_packets(octets, where)
    read = tpacket.read_packets(octets, positions)

    assert positions.tolist() == plain_walk(octets, where)
    sent = [packet for block in blocks for packet in block]
    found = [
        octets[start : start + length].tobytes()
        for start, length in zip(read.start.tolist(), read.captured_len.tolist(), strict=True)
    ]
    assert found == [packet.octets for packet in sent]
    assert read.time_ns.tolist() == [packet.time_ns for packet in sent]
    assert read.wire_len.tolist() == [len(packet.octets) for packet in sent]


def test_a_block_is_looked_up_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    def walked(*_: object) -> I64:
        raise AssertionError("a step of the interpreter for each packet")

    monkeypatch.setattr(tpacket, "_walked", walked)
    octets, where = ring([[Packet(bytes(60 + n), SECOND * 10**9 + n * 10**8) for n in range(40)]])
    assert tpacket.find_packets(octets, where).shape == (40,)


def test_a_chain_that_leaves_its_block_is_not_followed() -> None:
    octets, where = ring([[Packet(b"x" * 60), Packet(b"y" * 60)], [Packet(b"z")]])
    first = int(tpacket.find_packets(octets, where[:1])[0])
    octets[first : first + 4].view(np.uint32)[0] = 1 << 30
    assert tpacket.find_packets(octets, where).tolist()[:1] == [first]
    assert tpacket.find_packets(octets, where).shape == (2,)


def test_tags_are_put_back_behind_the_addresses() -> None:
    frame = bytes(range(12)) + b"\x08\x00" + b"payload"
    sent = [
        Packet(frame),
        Packet(frame, tag=(0x8100, 0x2064)),
        Packet(frame, tag=(0x88A8, 0)),
        Packet(frame[:5], tag=(0x8100, 7)),
        Packet(frame[:20], wire_len=90, tag=(0x8100, 7)),
    ]
    octets, where = ring([sent])
    tagged = tpacket.with_tags(octets, tpacket.read_packets(octets, tpacket.find_packets(octets, where)))
    found = [
        (octets[start : start + length].tobytes(), wire)
        for start, length, wire in zip(
            tagged.start.tolist(), tagged.captured_len.tolist(), tagged.wire_len.tolist(), strict=True
        )
    ]
    assert found == [
        (frame, 21),
        (frame[:12] + b"\x81\x00\x20\x64" + frame[12:], 25),
        (frame[:12] + b"\x88\xa8\x00\x00" + frame[12:], 25),
        (frame[:5], 5),
        (frame[:12] + b"\x81\x00\x00\x07" + frame[12:20], 94),
    ]


@pytest.mark.parametrize(
    ("second_version", "header"),
    [
        (True, b"\x86\xdd\0\0\0\0\0\x11\0\1\4\6\2\0\0\0\0\1\0\0"),
        (False, b"\0\4\0\1\0\6\2\0\0\0\0\1\0\0\x86\xdd"),
    ],
)
def test_cooked_headers_are_those_of_the_link_types(second_version: bool, header: bytes) -> None:
    octets, where = ring([[Packet(b"ip6", protocol=0x86DD, interface=17, kind=4)] * 1], cooked=True)
    read = tpacket.read_packets(octets, tpacket.find_packets(octets, where))
    made = tpacket.with_cooked_header(octets, read, second_version=second_version)
    start, length = int(made.start[0]), int(made.captured_len[0])
    assert octets[start : start + length].tobytes() == header + b"ip6"
    assert made.wire_len.tolist() == [length]
