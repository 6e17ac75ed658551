"""Packets inside packets: found by their header, read like any other, never guessed."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from analyzer.decode import Decoder
from analyzer.decode.packets import MAX_PATHS, MAX_TUNNEL_DEPTH
from analyzer.registries import Decode
from analyzer.schema import PacketTable
from tests import builders
from tests.builders import address, chunk, ethernet, geneve, ipv4, ipv6, tcp, vlan, vxlan

SEGMENT = tcp(b"payload", 40000, 6443, seq=7, ack=9)
PACKET = ipv4(SEGMENT)
FRAME = ethernet(PACKET)


def udp(payload: bytes, sport: int = 40000, dport: int = 31337) -> bytes:
    return builders.udp(payload, sport, dport)


def outer(payload: bytes, protocol: int = 17) -> bytes:
    return ethernet(ipv4(payload, "1.1.1.1", "2.2.2.2", protocol))


def decode(*frames: bytes) -> tuple[PacketTable, list[str]]:
    decoder = Decoder()
    return decoder.decode(chunk(frames)), decoder.paths


def gre(payload: bytes, protocol: int = 0x0800, flags: int = 0, fields: bytes = b"") -> bytes:
    return struct.pack(">HH", flags, protocol) + fields + payload


def ah(payload: bytes, following: int = 6) -> bytes:
    return bytes([following, 4, 0, 0]) + struct.pack(">II", 0x1234, 1) + bytes(12) + payload


TUNNELS = [
    pytest.param(outer(udp(vxlan(FRAME), dport=8472)), "vxlan:1", id="vxlan"),
    pytest.param(outer(udp(vxlan(FRAME, 77), dport=31337)), "vxlan:77", id="vxlan on any port"),
    pytest.param(outer(udp(b"\x88\0\0\x05" + vxlan(FRAME)[4:])), "vxlan:1", id="vxlan with a group policy"),
    pytest.param(outer(udp(b"\x0c\0\0\x03" + vxlan(FRAME)[4:])), "vxlan:1", id="vxlan-gpe, ethernet"),
    pytest.param(outer(udp(b"\x0c\0\0\x01" + vxlan(PACKET)[4:])), "vxlan:1", id="vxlan-gpe, ipv4"),
    pytest.param(outer(udp(b"\x08\x01\x02\x03" + vxlan(FRAME)[4:], dport=4789)), "vxlan:1", id="vxlan, reserved bits"),
    pytest.param(outer(udp(vxlan(ethernet(vlan(PACKET), 0x8100)))), "vxlan:1", id="vxlan with a tagged frame"),
    pytest.param(outer(udp(geneve(FRAME, options=bytes(8)), dport=6081)), "geneve:7", id="geneve with options"),
    pytest.param(outer(udp(geneve(PACKET, protocol=0x0800), dport=999)), "geneve:7", id="geneve without ethernet"),
    pytest.param(outer(PACKET, 4), "ipip", id="ipip"),
    pytest.param(ethernet(ipv6(PACKET, "2001:db8::1", "2001:db8::2", 4), 0x86DD), "ipip", id="4in6"),
    pytest.param(outer(ipv4(PACKET, "3.3.3.3", "4.4.4.4", 4), 4), "ipip/ipip", id="ipip twice"),
    pytest.param(outer(gre(PACKET), 47), "gre", id="gre"),
    pytest.param(outer(gre(PACKET, flags=0xB000, fields=bytes(12)), 47), "gre", id="gre, checksum, key, sequence"),
    pytest.param(outer(gre(FRAME, 0x6558, 0x2000, bytes(4)), 47), "gre", id="gre, transparent ethernet (NVGRE)"),
    pytest.param(outer(gre(b"\x00\x01\x41\x40" + PACKET, 0x8847), 47), "gre", id="gre, mpls"),
    pytest.param(outer(gre(b"\xff\x03\x00\x21" + PACKET, 0x880B, 0x3081, bytes(12)), 47), "gre", id="pptp"),
    pytest.param(outer(gre(FRAME, 0x88BE), 47), "erspan", id="erspan I"),
    pytest.param(outer(gre(bytes(8) + FRAME, 0x88BE, 0x1000, bytes(4)), 47), "erspan", id="erspan II"),
    pytest.param(outer(gre(bytes(12) + FRAME, 0x22EB, 0x1000, bytes(4)), 47), "erspan", id="erspan III"),
    pytest.param(
        outer(gre(bytes(11) + b"\x01" + bytes(8) + FRAME, 0x22EB, 0x1000, bytes(4)), 47),
        "erspan",
        id="erspan III with a sub-header",
    ),
    pytest.param(outer(b"\x30\x00" + FRAME, 97), "etherip", id="etherip"),
    pytest.param(outer(b"\x00\x01\x41\x40" + PACKET, 137), "mpls", id="mpls in ip"),
    pytest.param(outer(udp(b"\x00\x01\x41\x40" + PACKET, dport=6635)), "mpls", id="mpls in udp"),
    pytest.param(outer(udp(b"\x30\xff\0\0" + bytes(4) + PACKET, 2152, 2152)), "gtp-u", id="gtp-u"),
    pytest.param(
        outer(udp(b"\x34\xff\0\0" + bytes(7) + b"\x85\x01\0\0\0" + PACKET, 2152, 2152)),
        "gtp-u",
        id="gtp-u with an extension header",
    ),
    pytest.param(outer(udp(b"\x00\x02\0\x01\0\x07\xff\x03\x00\x21" + PACKET, 1701, 1701)), "l2tp:7", id="l2tp"),
    pytest.param(outer(udp(b"\x01\0\0\x01\x0b\x01x\x01" + FRAME, dport=37008)), "tzsp", id="tzsp"),
    pytest.param(outer(udp(bytes(8) + PACKET, dport=4341)), "lisp", id="lisp"),
]


@pytest.mark.parametrize(("frame", "path"), TUNNELS)
def test_tunnels(frame: bytes, path: str) -> None:
    table, paths = decode(frame)

    inner = table.take(np.flatnonzero(table.depth == table.depth.max()))
    assert [paths[i] for i in inner.encapsulation] == [path]
    assert (inner.src[0].tobytes(), inner.dst[0].tobytes()) == (address("10.0.0.10"), address("10.0.0.11"))
    assert (inner.src_port[0], inner.seq[0], inner.payload_len[0]) == (40000, 7, 7)
    assert inner.wire_len[0] == len(PACKET)
    assert frame[inner.payload_start[0] : inner.payload_stop[0]] == b"payload"
    # The outer packet is a row of its own.
    assert table.frame.tolist() == [1] * len(table)
    assert table.src[0].tobytes() in (address("1.1.1.1"), address("2001:db8::1"))


@pytest.mark.parametrize(("frame", "path"), TUNNELS)
def test_a_tunnel_cut_anywhere_loses_no_row(frame: bytes, path: str) -> None:
    for length in range(len(frame)):
        table = Decoder().decode(chunk([frame[:length]], wire_lens=[len(frame)]))
        assert int((table.depth == 0).sum()) == 1
        assert not ((table.status == Decode.OK) & (table.payload_start > length + 40)).any()


def test_6in4_and_teredo() -> None:
    inner = ipv6(SEGMENT, "2001:0:1::1", "2001:db8::2")
    frames = [
        outer(inner, 41),
        outer(udp(inner, dport=3544)),
        outer(udp(inner, dport=40001)),  # the prefix and the exact length show it on any port
        outer(udp(b"\0\0" + bytes(6) + inner, 3544)),
        outer(udp(b"\0\x01\0\0" + bytes(9) + inner, 3544)),
    ]

    table, paths = decode(*frames)

    inside = table.take(table.depth == 1)
    assert [paths[i] for i in inside.encapsulation] == ["ipv6ip", *["teredo"] * 4]
    assert inside.dst_port.tolist() == [6443] * 5


@pytest.mark.parametrize("version", [4, 6])
def test_an_authentication_header_is_reported_and_the_ports_behind_it_are_read(version: int) -> None:
    frame = outer(ah(SEGMENT), 51) if version == 4 else ethernet(ipv6(ah(SEGMENT), next_header=51), 0x86DD)

    table, paths = decode(frame)

    assert table.status.tolist() == [Decode.OTHER_TRANSPORT, Decode.OK]
    assert table.protocol.tolist() == [51, 6]
    assert [paths[i] for i in table.encapsulation] == ["", "ah"]
    assert (table.src[1] == table.src[0]).all()
    assert (table.src_port[1], table.seq[1], table.payload_len[1]) == (40000, 7, 7)


def test_authentication_in_tunnel_mode() -> None:
    table, paths = decode(outer(ah(PACKET, 4), 51))

    assert [paths[i] for i in table.encapsulation] == ["", "ah", "ah/ipip"]
    assert table.src[2].tobytes() == address("10.0.0.10")
    assert table.dst_port.tolist() == [0, 0, 6443]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(outer(udp(vxlan(FRAME), dport=53)), id="dns"),
        pytest.param(outer(udp(b"\x08\x01\0\0" + vxlan(FRAME)[4:])), id="vxlan with reserved bits off its ports"),
        pytest.param(outer(udp(vxlan(b"\xff" * 40))), id="no frame behind it"),
        pytest.param(outer(udp(b"\x30\xff\0\0" + bytes(4) + PACKET, 9999, 9998)), id="gtp-u off its port"),
        pytest.param(outer(udp(b"\x30\x01\0\0" + bytes(4) + PACKET, 2152, 2152)), id="gtp-u echo request"),
        pytest.param(outer(udp(ipv6(SEGMENT), dport=40001)), id="ipv6 in udp without the Teredo prefix"),
        pytest.param(outer(gre(PACKET, flags=0x4000, fields=bytes(4)), 47), id="gre with routing"),
        pytest.param(outer(gre(PACKET, 0x0806), 47), id="gre with something else"),
    ],
)
def test_what_does_not_prove_itself_stays_an_outer_packet(frame: bytes) -> None:
    table, _ = decode(frame)

    assert table.depth.tolist() == [0]


def test_recursive_tunnels_end_and_say_so() -> None:
    packet = PACKET
    for _ in range(50):
        packet = ipv4(packet, "1.1.1.1", "2.2.2.2", 4)

    table, _ = decode(ethernet(packet))

    assert table.depth.tolist() == [*range(MAX_TUNNEL_DEPTH + 2)]
    assert table.status[-1] == Decode.TOO_DEEP


def test_more_paths_than_are_told_apart_share_one() -> None:
    frames = [outer(udp(vxlan(FRAME, number))) for number in range(MAX_PATHS + 50)]

    table, paths = decode(*frames)

    assert len(paths) == MAX_PATHS  # an index of one more would reach the bits of the vantage point in a flow's key
    shared = table.encapsulation[(table.depth == 1)][-50:]
    assert {paths[i] for i in shared} == {"other"}
    assert paths[table.encapsulation[table.depth == 1][0]] == "vxlan:0"
