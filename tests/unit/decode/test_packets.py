from __future__ import annotations

import ipaddress

import numpy as np
import pytest

from analyzer.decode import Decoder
from analyzer.registries import Decode, LinkType
from analyzer.schema import PacketTable
from tests.builders import SYN, chunk, ethernet, geneve, ipv4, ipv6, tcp, udp, vlan, vxlan

SEGMENT = tcp(b"payload", 40000, 6443, seq=7, ack=9)


def decode(frame: bytes, link_type: int = LinkType.ETHERNET, wire_len: int | None = None) -> PacketTable:
    return Decoder().decode(chunk([frame], link_type, wire_lens=None if wire_len is None else [wire_len]))


def address(text: str) -> bytes:
    parsed = ipaddress.ip_address(text)
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


LINKS = [
    pytest.param(LinkType.ETHERNET, ethernet(ipv4(SEGMENT)), id="ethernet"),
    pytest.param(LinkType.ETHERNET, ethernet(vlan(ipv4(SEGMENT)), 0x8100), id="802.1Q"),
    pytest.param(LinkType.ETHERNET, ethernet(vlan(vlan(ipv4(SEGMENT)), 0x8100), 0x88A8), id="802.1ad"),
    pytest.param(LinkType.ETHERNET, ethernet(bytes.fromhex("0001004000002140") + ipv4(SEGMENT), 0x8847), id="mpls"),
    pytest.param(
        LinkType.ETHERNET, ethernet(bytes.fromhex("110000010031") + b"\x00\x21" + ipv4(SEGMENT), 0x8864), id="pppoe"
    ),
    pytest.param(LinkType.ETHERNET, ethernet(bytes.fromhex("aaaa030000000800") + ipv4(SEGMENT), 55), id="snap"),
    pytest.param(LinkType.LINUX_SLL, bytes(14) + b"\x08\x00" + ipv4(SEGMENT), id="sll"),
    pytest.param(LinkType.LINUX_SLL2, b"\x08\x00" + bytes(18) + ipv4(SEGMENT), id="sll2"),
    pytest.param(LinkType.RAW, ipv4(SEGMENT), id="raw"),
    pytest.param(LinkType.IPV4, ipv4(SEGMENT), id="ipv4"),
    pytest.param(LinkType.NULL, b"\x02\0\0\0" + ipv4(SEGMENT), id="null"),
    pytest.param(LinkType.LOOP, b"\0\0\0\x02" + ipv4(SEGMENT), id="loop"),
    pytest.param(LinkType.PPP, b"\xff\x03\x00\x21" + ipv4(SEGMENT), id="ppp"),
    pytest.param(LinkType.C_HDLC, b"\x0f\x00\x08\x00" + ipv4(SEGMENT), id="c-hdlc"),
]


@pytest.mark.parametrize(("link_type", "frame"), LINKS)
def test_every_link_type_leads_to_the_same_packet(link_type: int, frame: bytes) -> None:
    table = decode(frame, link_type)

    assert len(table) == 1
    assert table.status[0] == Decode.OK
    assert (table.src[0].tobytes(), table.dst[0].tobytes()) == (address("10.0.0.10"), address("10.0.0.11"))
    assert (table.src_port[0], table.dst_port[0], table.seq[0], table.ack[0]) == (40000, 6443, 7, 9)
    assert frame[table.payload_start[0] : table.payload_stop[0]] == b"payload"
    assert table.payload_len[0] == 7
    assert table.wire_len[0] == len(frame)


@pytest.mark.parametrize(("link_type", "frame"), LINKS)
def test_a_frame_cut_anywhere_is_a_row_with_a_reason(link_type: int, frame: bytes) -> None:
    for length in range(len(frame)):
        table = decode(frame[:length], link_type, wire_len=len(frame))
        assert len(table) == 1
        complete = length >= len(frame) - len(b"payload")
        assert (table.status[0] == Decode.OK) == complete, length
        if complete:
            assert table.payload_stop[0] - table.payload_start[0] == length - (len(frame) - 7)
            assert table.payload_len[0] == 7
        elif table.status[0] == Decode.NOT_IP:
            # Only link types without an EtherType of their own cannot tell a cut header from another protocol.
            assert length <= 22


def test_an_unsupported_link_type_is_said_and_not_guessed() -> None:
    assert decode(ethernet(ipv4(SEGMENT)), 189).status.tolist() == [Decode.UNSUPPORTED_LINK]


@pytest.mark.parametrize(
    ("packet", "status"),
    [
        pytest.param(b"\x55" + ipv4(SEGMENT)[1:], Decode.BAD_NETWORK, id="version 5"),
        pytest.param(b"\x44" + ipv4(SEGMENT)[1:], Decode.BAD_NETWORK, id="header length 16"),
        pytest.param(ipv4(SEGMENT, total=19), Decode.BAD_NETWORK, id="total length below the header"),
        pytest.param(ipv4(SEGMENT, total=30), Decode.BAD_TRANSPORT, id="total length ends inside TCP"),
        pytest.param(ipv4(SEGMENT, flags_offset=0x00B9), Decode.LATER_FRAGMENT, id="later fragment"),
        pytest.param(ipv4(SEGMENT, flags_offset=0x2000), Decode.OK, id="first fragment"),
        pytest.param(ipv4(SEGMENT, options=b"\x01" * 8), Decode.OK, id="options"),
        pytest.param(ipv4(b"\x08\x00" + bytes(6), protocol=1), Decode.OTHER_TRANSPORT, id="icmp"),
        pytest.param(ipv4(SEGMENT[:12] + b"\x40" + SEGMENT[13:]), Decode.BAD_TRANSPORT, id="data offset 16"),
        pytest.param(ipv4(SEGMENT[:12] + b"\xf0" + SEGMENT[13:]), Decode.BAD_TRANSPORT, id="data offset 60"),
    ],
)
def test_ipv4_headers(packet: bytes, status: Decode) -> None:
    assert decode(ethernet(packet)).status.tolist() == [status]


def test_a_total_length_of_zero_is_an_offloaded_segment() -> None:
    frame = ethernet(ipv4(SEGMENT, total=0))

    table = decode(frame)

    assert table.status[0] == Decode.OK
    assert table.payload_len[0] == 7


def test_padding_behind_the_total_length_is_not_payload() -> None:
    table = decode(ethernet(ipv4(tcp(b""))) + bytes(6))

    assert table.payload_len.tolist() == [0]
    assert table.payload_start[0] == table.payload_stop[0]


def extension(kind: int, following: int, units: int = 0) -> bytes:
    assert kind in (0, 43, 60)
    return bytes([following, units]) + bytes(6 + 8 * units)


@pytest.mark.parametrize(
    ("payload", "first", "status"),
    [
        pytest.param(SEGMENT, 6, Decode.OK, id="none"),
        pytest.param(extension(0, 6) + SEGMENT, 0, Decode.OK, id="hop by hop"),
        pytest.param(extension(0, 60) + extension(60, 43, 2) + extension(43, 6) + SEGMENT, 0, Decode.OK, id="three"),
        pytest.param(bytes([6, 1]) + bytes(10) + SEGMENT, 51, Decode.OK, id="authentication header"),
        pytest.param(bytes([6, 0, 0, 1]) + bytes(4) + SEGMENT, 44, Decode.OK, id="first fragment"),
        pytest.param(bytes([6, 0, 0, 0]) + bytes(4) + SEGMENT, 44, Decode.OK, id="atomic fragment"),
        pytest.param(bytes([6, 0, 0, 9]) + bytes(4) + SEGMENT, 44, Decode.LATER_FRAGMENT, id="later fragment"),
        pytest.param(extension(60, 60) * 20 + SEGMENT, 60, Decode.TOO_DEEP, id="endless"),
        pytest.param(extension(0, 6, 200)[:20], 0, Decode.TRUNCATED_NETWORK, id="lying length"),
    ],
)
def test_ipv6_extension_headers(payload: bytes, first: int, status: Decode) -> None:
    table = decode(ethernet(ipv6(payload, next_header=first), 0x86DD))

    assert table.status.tolist() == [status]
    if status == Decode.OK:
        assert (table.src_port[0], table.dst_port[0], table.payload_len[0]) == (40000, 6443, 7)


@pytest.mark.parametrize(
    ("outer", "path"),
    [
        pytest.param(
            ipv4(udp(vxlan(ethernet(ipv4(SEGMENT))), dport=8472), "1.1.1.1", "2.2.2.2", 17), "vxlan:1", id="vxlan"
        ),
        pytest.param(
            ipv4(udp(vxlan(ethernet(ipv4(SEGMENT)), 77), dport=31337), "1.1.1.1", "2.2.2.2", 17),
            "vxlan:77",
            id="any port",
        ),
        pytest.param(
            ipv4(udp(geneve(ethernet(ipv4(SEGMENT)), options=bytes(8)), dport=6081), "1.1.1.1", "2.2.2.2", 17),
            "geneve:7",
            id="geneve with options",
        ),
        pytest.param(ipv4(ipv4(SEGMENT), "1.1.1.1", "2.2.2.2", 4), "ipip", id="ipip"),
        pytest.param(
            ipv4(ipv4(ipv4(SEGMENT), "3.3.3.3", "4.4.4.4", 4), "1.1.1.1", "2.2.2.2", 4), "ipip/ipip", id="twice"
        ),
        pytest.param(
            ipv4(b"\x20\0\x08\0" + bytes(4) + ipv4(SEGMENT), "1.1.1.1", "2.2.2.2", 47), "gre", id="gre with key"
        ),
    ],
)
def test_tunnels(outer: bytes, path: str) -> None:
    decoder = Decoder()

    table = decoder.decode(chunk([ethernet(outer)]))

    inner = table.take(np.flatnonzero(table.depth == table.depth.max()))
    assert [decoder.paths[i] for i in inner.encapsulation] == [path]
    assert inner.src[0].tobytes() == address("10.0.0.10")
    assert (inner.src_port[0], inner.seq[0], inner.payload_len[0]) == (40000, 7, 7)
    assert table.frame.tolist() == [1] * len(table)


def test_a_dns_message_is_not_an_overlay() -> None:
    looks_like = vxlan(ethernet(ipv4(SEGMENT)))

    assert len(decode(ethernet(ipv4(udp(looks_like, dport=53), protocol=17)))) == 1


def test_recursive_tunnels_end() -> None:
    packet = ipv4(SEGMENT)
    for _ in range(50):
        packet = ipv4(packet, "1.1.1.1", "2.2.2.2", 4)

    assert int(decode(ethernet(packet)).depth.max()) == 4


def test_rows_of_mixed_frames_keep_their_order() -> None:
    frames = [
        ethernet(ipv4(tcp(flags=SYN))),
        ethernet(b"\0" * 28, 0x0806),
        ethernet(ipv6(SEGMENT), 0x86DD),
        ethernet(ipv4(udp(b"x"), protocol=17)),
        b"",
    ]

    table = Decoder().decode(chunk(frames, gap=b"\xee" * 16))

    assert table.frame.tolist() == [1, 2, 3, 4, 5]
    expected = [Decode.OK, Decode.NOT_IP, Decode.OK, Decode.OK, Decode.TRUNCATED_LINK]
    assert table.status.tolist() == expected
    assert table.protocol.tolist() == [6, 0, 6, 17, 0]
