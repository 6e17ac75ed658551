"""The books balance whatever the frames were, and say what became of fragments and repeated records."""

from __future__ import annotations

import struct

from analyzer.analysis import ClusterContext, conclude
from analyzer.pipeline import Pipeline
from analyzer.registries import LinkType
from analyzer.report.audit_result import CaptureSummary
from analyzer.report.document import build_document
from tests.builders import chunk, ethernet, ipv4, tcp, udp

BODY = bytes(range(256)) * 2


def lines(frames: list[bytes], link_type: int = LinkType.RAW) -> dict[str, int]:
    pipeline = Pipeline()
    pipeline.add(chunk(frames, link_type, times_ns=[10**18 + i for i in range(len(frames))]))
    summary = CaptureSummary("x", "pcap", 0, len(frames), pipeline.first_ns, pipeline.last_ns)
    result = conclude(pipeline.evidence(), pipeline.ledger, [summary], ClusterContext())
    document = build_document(result)
    assert document["ledger"]["balanced"]
    assert document["ledger"]["duplicates"] == result.ledger.duplicates
    return {str(title): int(count) for title, count in document["ledger"]["lines"]}


def fragment(datagram: bytes, start: int, stop: int, identification: int = 1) -> bytes:
    more = 0x2000 if stop < len(datagram) else 0
    return ipv4(datagram[start:stop], protocol=17, flags_offset=start // 8 | more, identification=identification)


def test_records_of_one_packet_on_several_interfaces() -> None:
    def cooked(index: int) -> bytes:
        return struct.pack(">HHIHBB8s", 0x0800, 0, index, 1, 0, 6, bytes(8)) + ipv4(tcp(b"x"))

    said = lines([cooked(3), cooked(4), cooked(5)], LinkType.LINUX_SLL2)

    assert said["Packets in flows"] == 1
    assert said["outside flows: recorded again on another interface"] == 2


def test_fragments() -> None:
    whole, holed = udp(BODY, 5, 6), udp(BODY, 7, 8)
    liar = fragment(bytes(64) + whole[64:], 0, 64)

    said = lines(
        [
            fragment(whole, 0, 256),
            liar,
            fragment(whole, 256, 520),
            fragment(holed, 256, 520, 2),
            fragment(holed, 0, 64, 3),
        ]
    )

    assert said["IP datagrams put together from fragments"] == 1
    assert said["IP datagrams with a fragment missing"] == 2
    assert said["IP fragments with different octets for one place (the first copy is read)"] == 1
    assert said["outside flows: IP fragment without its datagram's first one before it"] == 1


def test_frames_of_every_fate() -> None:
    frames = [
        ethernet(ipv4(tcp())),
        ethernet(b"\0" * 28, 0x0806),
        b"",
        ethernet(b"\x55" * 40),
        ethernet(ipv4(b"\x08\0", protocol=1)),
    ]

    said = lines(frames, LinkType.ETHERNET)

    assert (said["Frames read"], said["of these decoded"], said["Packets in flows"]) == (5, 2, 1)
    assert sum(count for title, count in said.items() if title.startswith("not decoded")) == 3
