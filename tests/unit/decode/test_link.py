"""Every link type leads to the same packet, and a frame cut anywhere is a row with a reason."""

from __future__ import annotations

import struct

import pytest

from analyzer.decode import Decoder
from analyzer.registries import Decode, LinkType
from analyzer.schema import PacketTable
from tests.builders import address, chunk, ethernet, ipv4, ipv6, tcp, vlan

SEGMENT = tcp(b"payload", 40000, 6443, seq=7, ack=9)
PACKET = ipv4(SEGMENT)
SNAP = bytes.fromhex("aaaa030000000800")
MACS = bytes.fromhex("020000000001020000000002")


def decode(frame: bytes, link_type: int = LinkType.ETHERNET, wire_len: int | None = None) -> PacketTable:
    return Decoder().decode(chunk([frame], link_type, wire_lens=None if wire_len is None else [wire_len]))


def label(number: int, bottom: bool) -> bytes:
    return struct.pack(">I", number << 12 | bottom << 8 | 64)


def wlan(flags: int = 1, control: int = 0x08, rest: bytes = b"") -> bytes:
    """An IEEE 802.11 data header up to the sequence number, and what follows it."""
    return bytes([control, flags]) + bytes(22) + rest


def radiotap(fields: bytes, present: int) -> bytes:
    return struct.pack("<BBHI", 0, 0, 8 + len(fields), present) + fields


def nflog(order: str, packet: bytes) -> bytes:
    def tlv(kind: int, value: bytes) -> bytes:
        return struct.pack(order + "HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    return bytes([2, 0, 0, 0]) + tlv(1, bytes(4)) + tlv(10, b"prefix\0") + tlv(9, packet)[: 4 + len(packet)]


LINKS = [
    pytest.param(LinkType.ETHERNET, ethernet(PACKET), id="ethernet"),
    pytest.param(LinkType.ETHERNET, ethernet(vlan(PACKET), 0x8100), id="802.1Q"),
    pytest.param(LinkType.ETHERNET, ethernet(vlan(vlan(PACKET), 0x8100), 0x88A8), id="802.1ad"),
    pytest.param(LinkType.ETHERNET, ethernet(vlan(SNAP + PACKET, 60), 0x8100), id="802.1Q with 802.2"),
    pytest.param(LinkType.ETHERNET, ethernet(label(20, False) + label(33, True) + PACKET, 0x8847), id="mpls"),
    pytest.param(
        LinkType.ETHERNET, ethernet(label(20, True) + bytes(4) + ethernet(PACKET), 0x8847), id="ethernet over mpls"
    ),
    pytest.param(
        LinkType.ETHERNET,
        ethernet(label(20, True) + ethernet(vlan(PACKET), 0x8100), 0x8847),
        id="tagged ethernet over mpls without a control word",
    ),
    pytest.param(LinkType.ETHERNET, ethernet(bytes.fromhex("110000010031") + b"\x00\x21" + PACKET, 0x8864), id="pppoe"),
    pytest.param(LinkType.ETHERNET, ethernet(SNAP + PACKET, 55), id="snap"),
    pytest.param(LinkType.ETHERNET, ethernet(bytes.fromhex("060603") + PACKET, 50), id="802.2 with SAP 6"),
    pytest.param(LinkType.ETHERNET, ethernet(bytes(4) + b"\x08\0" + PACKET, 0x8926), id="VN-Tag"),
    pytest.param(LinkType.ETHERNET, ethernet(bytes(6) + b"\x08\0" + PACKET, 0x893F), id="802.1BR"),
    pytest.param(LinkType.ETHERNET, ethernet(bytes(4) + ethernet(PACKET), 0x88E7), id="802.1ah"),
    pytest.param(LinkType.ETHERNET, ethernet(bytes(6) + b"\x08\0" + PACKET, 0x88E5), id="MACsec, only authenticated"),
    pytest.param(
        LinkType.ETHERNET, ethernet(b"\x20" + bytes(13) + b"\x08\0" + PACKET, 0x88E5), id="MACsec with its channel"
    ),
    pytest.param(
        LinkType.ETHERNET, ethernet(bytes.fromhex("0fc6 0101 00000101") + bytes(16) + PACKET, 0x894F), id="NSH"
    ),
    pytest.param(LinkType.LINUX_SLL, bytes(14) + b"\x08\x00" + PACKET, id="sll"),
    pytest.param(LinkType.LINUX_SLL, bytes(14) + b"\x00\x04" + SNAP + PACKET, id="sll with 802.2"),
    pytest.param(LinkType.LINUX_SLL2, b"\x08\x00" + bytes(18) + PACKET, id="sll2"),
    pytest.param(LinkType.RAW, PACKET, id="raw"),
    pytest.param(LinkType.IPV4, PACKET, id="ipv4"),
    pytest.param(LinkType.NULL, b"\x02\0\0\0" + PACKET, id="null"),
    pytest.param(LinkType.LOOP, b"\0\0\0\x02" + PACKET, id="loop"),
    pytest.param(LinkType.ENC, b"\x02\0\0\0" + bytes(8) + PACKET, id="enc"),
    pytest.param(LinkType.PFLOG, b"\x3d" + bytes(63) + PACKET, id="pflog"),
    pytest.param(LinkType.PPP, b"\xff\x03\x00\x21" + PACKET, id="ppp"),
    pytest.param(LinkType.PPP, b"\x21" + PACKET, id="ppp, compressed"),
    pytest.param(LinkType.PPP, b"\xff\x03\x02\x81" + label(9, True) + PACKET, id="mpls over ppp"),
    pytest.param(LinkType.PPP_WITH_DIR, b"\x01\xff\x03\x00\x21" + PACKET, id="ppp with direction"),
    pytest.param(LinkType.PPP_ETHER, bytes.fromhex("1100000100310021") + PACKET, id="ppp over ethernet"),
    pytest.param(LinkType.C_HDLC, b"\x0f\x00\x08\x00" + PACKET, id="c-hdlc"),
    pytest.param(LinkType.FRELAY, bytes.fromhex("184103cc") + PACKET, id="frame relay"),
    pytest.param(LinkType.FRELAY, bytes.fromhex("1841030080000000 0800") + PACKET, id="frame relay with SNAP"),
    pytest.param(LinkType.FRELAY, bytes.fromhex("18410800") + PACKET, id="frame relay, Cisco"),
    pytest.param(LinkType.NFLOG, nflog("<", PACKET), id="nflog"),
    pytest.param(LinkType.NFLOG, nflog(">", PACKET), id="nflog, big-endian"),
    pytest.param(LinkType.FDDI, b"\x50" + MACS + SNAP + PACKET, id="fddi"),
    pytest.param(LinkType.IEEE802_5, b"\x10\x40" + MACS + SNAP + PACKET, id="token ring"),
    pytest.param(
        LinkType.IEEE802_5,
        b"\x10\x40" + MACS[:6] + b"\x82" + bytes(5) + b"\x06\0" + bytes(4) + SNAP + PACKET,
        id="token ring, source-routed",
    ),
    pytest.param(LinkType.ARCNET_LINUX, b"\1\2\0\0\xd4\0\0\0" + PACKET, id="arcnet"),
    pytest.param(LinkType.ARCNET_LINUX, b"\1\2\0\0\xf0" + PACKET, id="arcnet, RFC 1051"),
    pytest.param(LinkType.ATM_RFC1483, SNAP + PACKET, id="atm"),
    pytest.param(LinkType.SUNATM, bytes(4) + SNAP + PACKET, id="sunatm"),
    pytest.param(LinkType.SLIP, bytes(16) + PACKET, id="slip"),
    pytest.param(LinkType.IPOIB, bytes(40) + b"\x08\0\0\0" + PACKET, id="infiniband"),
    pytest.param(LinkType.MPLS, label(5, True) + PACKET, id="mpls alone"),
    pytest.param(LinkType.IEEE802_11, wlan(rest=SNAP + PACKET), id="802.11"),
    pytest.param(LinkType.IEEE802_11, wlan(3, rest=bytes(6) + SNAP + PACKET), id="802.11 with four addresses"),
    pytest.param(LinkType.IEEE802_11, wlan(1, 0x88, bytes(2) + SNAP + PACKET), id="802.11 QoS"),
    pytest.param(LinkType.IEEE802_11, wlan(0x81, 0x88, bytes(6) + SNAP + PACKET), id="802.11 with HT control"),
    pytest.param(LinkType.IEEE802_11_RADIOTAP, radiotap(bytes(9), 3) + wlan(rest=SNAP + PACKET), id="radiotap"),
    pytest.param(
        LinkType.IEEE802_11_RADIOTAP,
        radiotap(bytes(8) + b"\x20", 3) + wlan(1, 0x88, bytes(2) + bytes(2) + SNAP + PACKET),
        id="radiotap with a padded header",
    ),
    pytest.param(LinkType.IEEE802_11_PRISM, bytes(144) + wlan(rest=SNAP + PACKET), id="prism"),
    pytest.param(
        LinkType.IEEE802_11_AVS,
        bytes.fromhex("8021000100000040") + bytes(56) + wlan(rest=SNAP + PACKET),
        id="avs",
    ),
    pytest.param(LinkType.PPI, struct.pack("<BBHI", 0, 0, 8, 1) + ethernet(PACKET), id="ppi"),
    pytest.param(LinkType.PKTAP, struct.pack("<III", 108, 1, 1) + bytes(96) + ethernet(PACKET), id="pktap"),
    pytest.param(LinkType.NETANALYZER, bytes(4) + ethernet(PACKET), id="netanalyzer"),
    pytest.param(LinkType.DSA_TAG_BRCM, MACS + bytes(4) + b"\x08\0" + PACKET, id="Broadcom tag"),
    pytest.param(LinkType.DSA_TAG_BRCM_PREPEND, bytes(4) + ethernet(PACKET), id="Broadcom tag in front"),
    pytest.param(LinkType.DSA_TAG_EDSA, MACS + bytes(8) + b"\x08\0" + PACKET, id="EtherType DSA tag"),
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
    tcp_starts = len(frame) - len(SEGMENT)
    for length in range(len(frame)):
        table = decode(frame[:length], link_type, wire_len=len(frame))
        assert len(table) == 1
        complete = length >= len(frame) - len(b"payload")
        assert (table.status[0] == Decode.OK) == complete, length
        if complete:
            assert table.payload_stop[0] - table.payload_start[0] == length - (len(frame) - 7)
            assert table.payload_len[0] == 7
        elif table.status[0] == Decode.NOT_IP:
            # A header that ends before its type, or its version nibble, may be another protocol's.
            assert length <= tcp_starts, length


@pytest.mark.parametrize(
    ("link_type", "frame"),
    [
        pytest.param(LinkType.IEEE802_11, wlan(0x41, rest=SNAP + PACKET), id="protected 802.11"),
        pytest.param(LinkType.IEEE802_11, wlan(1, 0x48, SNAP + PACKET), id="802.11 without a body"),
        pytest.param(LinkType.IEEE802_11, wlan(1, 0x88, b"\x80\0" + SNAP + PACKET), id="802.11 aggregate"),
        pytest.param(LinkType.IEEE802_11, wlan(0, 0x80, SNAP + PACKET), id="802.11 beacon"),
        pytest.param(
            LinkType.ETHERNET, ethernet(b"\x08" + bytes(5) + b"\x08\0" + PACKET, 0x88E5), id="MACsec, encrypted"
        ),
        pytest.param(
            LinkType.ETHERNET, ethernet(b"\x11\x09" + bytes(4) + b"\0\x21" + PACKET, 0x8864), id="PPPoE, no data"
        ),
        pytest.param(LinkType.FDDI, b"\x41" + MACS + SNAP + PACKET, id="fddi station management"),
        pytest.param(LinkType.NFLOG, bytes([2, 0, 0, 0, 8, 0, 1, 0]) + bytes(4), id="nflog without a packet"),
    ],
)
def test_what_is_not_a_clear_ip_packet_is_not_guessed(link_type: int, frame: bytes) -> None:
    assert decode(frame, link_type).status.tolist() == [Decode.NOT_IP]


def test_a_link_type_that_says_ipv6_holds_no_ipv4() -> None:
    assert decode(PACKET, LinkType.IPV6).status.tolist() == [Decode.BAD_NETWORK]
    assert decode(ipv6(SEGMENT), LinkType.IPV6).status.tolist() == [Decode.OK]


def test_tags_of_any_depth_are_followed_to_a_limit() -> None:
    packet = PACKET
    for _ in range(40):
        packet = vlan(packet, 0x8100 if packet is not PACKET else 0x0800)
    assert decode(ethernet(packet, 0x8100)).status.tolist() == [Decode.OK]
    for _ in range(40):
        packet = vlan(packet, 0x8100)
    assert decode(ethernet(packet, 0x8100)).status.tolist() == [Decode.TOO_DEEP]


def test_a_wrapper_around_itself_has_no_reader() -> None:
    frame = struct.pack("<BBHI", 0, 0, 8, LinkType.PPI) * 4 + ethernet(PACKET)

    assert decode(frame, LinkType.PPI).status.tolist() == [Decode.UNSUPPORTED_LINK]


def test_nflog_with_lengths_of_zero_ends() -> None:
    assert decode(bytes([2, 0, 0, 0]) + bytes(4096), LinkType.NFLOG).status.tolist() == [Decode.NOT_IP]
