"""The fast path against the general one: whatever a frame holds, both give the same row."""

from __future__ import annotations

from dataclasses import fields
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.decode import Decoder, packets
from analyzer.decode.plain import decode_plain
from analyzer.registries import Decode, LinkType
from analyzer.schema import CaptureChunk, PacketTable
from tests.builders import chunk, ethernet, ipv4, ipv6, tcp, udp, vlan, vxlan

SEGMENT = tcp(b"\x16\x03\x01\x00\x05hello", 40000, 6443, seq=0xFFFFFFFE, ack=9)
LINK_HEADERS = {
    LinkType.ETHERNET: bytes(12) + b"\x08\x00",
    LinkType.LINUX_SLL: bytes(14) + b"\x08\x00",
    LinkType.LINUX_SLL2: b"\x08\x00" + bytes(18),
}
OTHERS = [
    b"",
    bytes(64),
    ethernet(b"\0" * 28, 0x0806),
    ethernet(ipv6(SEGMENT), 0x86DD),
    ethernet(ipv4(udp(b"x"), protocol=17)),
    ethernet(vlan(ipv4(SEGMENT)), 0x8100),
    ethernet(ipv4(SEGMENT, options=b"\x01" * 8)),
    ethernet(ipv4(SEGMENT, total=0)),
    ethernet(ipv4(SEGMENT, flags_offset=0x2000)),
    ethernet(ipv4(udp(vxlan(ethernet(ipv4(SEGMENT))), dport=8472), "1.1.1.1", "2.2.2.2", 17)),
]


def generally(piece: CaptureChunk) -> PacketTable:
    with mock.patch.object(packets, "decode_plain", return_value=None):
        return Decoder().decode(piece)


def assert_same(one: PacketTable, other: PacketTable) -> None:
    for field in fields(PacketTable):
        left, right = getattr(one, field.name), getattr(other, field.name)
        assert left.dtype == right.dtype, field.name
        assert np.array_equal(left, right), field.name


@st.composite
def plain_frames(draw: st.DrawFn, link_type: int) -> tuple[bytes, int]:
    """A frame of a TCP segment of which some octets were changed and the end cut off; its length on the wire."""
    frame = bytearray(LINK_HEADERS[LinkType(link_type)] + ipv4(SEGMENT) + bytes(draw(st.integers(0, 6))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=2)):
        frame[at] = value
    captured = draw(st.integers(0, len(frame))) if draw(st.booleans()) else len(frame)
    return bytes(frame[:captured]), len(frame)


@given(st.data(), st.sampled_from(sorted(LINK_HEADERS)))
def test_the_fast_path_gives_the_rows_of_the_general_one(data: st.DataObject, link_type: int) -> None:
    frames = data.draw(st.lists(plain_frames(link_type), min_size=1, max_size=8))
    if link_type == LinkType.ETHERNET:
        strangers = [(frame, len(frame)) for frame in data.draw(st.lists(st.sampled_from(OTHERS), max_size=3))]
        frames = data.draw(st.permutations(frames + strangers))
    piece = chunk([f for f, _ in frames], link_type, wire_lens=[length for _, length in frames], gap=b"\xee" * 16)

    assert_same(Decoder().decode(piece), generally(piece))


def test_most_frames_take_it_and_the_rest_are_named() -> None:
    piece = chunk([ethernet(ipv4(SEGMENT))] * 8 + OTHERS[:4])

    plain = decode_plain(piece)

    assert plain is not None
    table, others = plain
    assert others.tolist() == [8, 9, 10, 11]
    assert table.status[:8].tolist() == [Decode.OK] * 8
    assert decode_plain(chunk(OTHERS)) is None
    assert decode_plain(chunk([ipv4(SEGMENT)], LinkType.RAW)) is None
    assert decode_plain(chunk([])) is None
