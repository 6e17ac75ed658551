from __future__ import annotations

import pytest

from analyzer.decode import Decoder
from analyzer.registries import Decode, LinkType
from analyzer.schema import PacketTable
from tests.builders import SYN, chunk, ethernet, ipv4, ipv6, tcp, udp

SEGMENT = tcp(b"payload", 40000, 6443, seq=7, ack=9)


def decode(frame: bytes, link_type: int = LinkType.ETHERNET, wire_len: int | None = None) -> PacketTable:
    return Decoder().decode(chunk([frame], link_type, wire_lens=None if wire_len is None else [wire_len]))


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


def test_tcp_options_cut_by_the_capture_hide_nothing_that_is_read() -> None:
    frame = ethernet(ipv4(tcp(b"payload", options=b"\x01" * 20)))

    table = decode(frame[:60], wire_len=len(frame))

    assert table.status.tolist() == [Decode.OK]
    assert (table.payload_len[0], table.payload_stop[0] - table.payload_start[0]) == (7, 0)


def extension(kind: int, following: int, units: int = 0) -> bytes:
    assert kind in (0, 43, 60)
    return bytes([following, units]) + bytes(6 + 8 * units)


@pytest.mark.parametrize(
    ("payload", "first", "status"),
    [
        pytest.param(SEGMENT, 6, Decode.OK, id="none"),
        pytest.param(extension(0, 6) + SEGMENT, 0, Decode.OK, id="hop by hop"),
        pytest.param(extension(0, 60) + extension(60, 43, 2) + extension(43, 6) + SEGMENT, 0, Decode.OK, id="three"),
        pytest.param(bytes([6, 0, 0, 1]) + bytes(4) + SEGMENT, 44, Decode.OK, id="first fragment"),
        pytest.param(bytes([6, 0, 0, 0]) + bytes(4) + SEGMENT, 44, Decode.OK, id="atomic fragment"),
        pytest.param(bytes([6, 0, 0, 9]) + bytes(4) + SEGMENT, 44, Decode.LATER_FRAGMENT, id="later fragment"),
        pytest.param(extension(60, 60) * 80 + SEGMENT, 60, Decode.TOO_DEEP, id="endless"),
        pytest.param(extension(0, 6, 200)[:20], 0, Decode.TRUNCATED_NETWORK, id="lying length"),
    ],
)
def test_ipv6_extension_headers(payload: bytes, first: int, status: Decode) -> None:
    table = decode(ethernet(ipv6(payload, next_header=first), 0x86DD))

    assert table.status.tolist() == [status]
    if status == Decode.OK:
        assert (table.src_port[0], table.dst_port[0], table.payload_len[0]) == (40000, 6443, 7)


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
