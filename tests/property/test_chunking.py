"""The result does not depend on how the input was cut, nor on when connections are read on the way."""

from __future__ import annotations

import json
import struct
from dataclasses import fields
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.analysis import ClusterContext, conclude
from analyzer.capture.source import open_capture
from analyzer.decode import Decoder
from analyzer.flows import FlowBuilder
from analyzer.pipeline import Limits, Pipeline
from analyzer.registries import LinkType
from analyzer.report.audit_result import CaptureSummary
from analyzer.report.document import build_document
from analyzer.schema import I64, U8, CaptureChunk
from tests.builders import (
    ACK,
    CLIENT,
    FIN,
    RST,
    SERVER,
    SYN,
    Conversation,
    chunk,
    ethernet,
    frames_of,
    ipv4,
    tcp,
    udp,
    vxlan,
)
from tests.conftest import LAB

CAPTURES = (
    "05-proxy-cleartext.pcap",
    "10-tls12.pcap",
    "12-overlay-vxlan.pcap",
    "28-fmt-duplicates-reordered.pcap",
    "27-fmt-packet-loss.pcap",
    "11-keylog-dsb.pcapng",
)


def analyse(chunks: list[CaptureChunk], limits: Limits | None = None) -> str:
    pipeline = Pipeline(limits)
    for piece in chunks:
        pipeline.add(piece)
    summary = CaptureSummary("x", "pcap", 0, pipeline.ledger.frames, pipeline.first_ns, pipeline.last_ns)
    result = conclude(pipeline.evidence(), pipeline.ledger, [summary], ClusterContext())
    assert result.ledger.balanced
    return json.dumps(build_document(result), sort_keys=True)


COLUMNS = ("start", "captured_len", "wire_len", "time_ns", "interface", "link_type")


def whole(path: Path) -> CaptureChunk:
    """The whole capture as one chunk of its own memory."""
    octets: list[U8] = []
    columns: dict[str, list[I64]] = {name: [] for name in COLUMNS}
    offset = 0
    with open_capture(str(path)) as reader:
        for part in reader:
            octets.append(part.octets.copy())  # the reader may reuse its buffer
            for name in COLUMNS:
                columns[name].append(getattr(part, name) + (offset if name == "start" else 0))
            offset += part.octets.shape[0]
    merged: dict[str, Any] = {name: np.concatenate(values) for name, values in columns.items()}
    return CaptureChunk(octets=np.concatenate(octets), first_frame=1, **merged)


def cut(capture: CaptureChunk, at: list[int]) -> list[CaptureChunk]:
    parts: list[CaptureChunk] = []
    for begin, end in pairwise([0, *sorted(set(at)), len(capture)]):
        if end > begin:
            columns: dict[str, Any] = {name: getattr(capture, name)[begin:end] for name in COLUMNS}
            parts.append(CaptureChunk(octets=capture.octets, first_frame=capture.first_frame + begin, **columns))
    return parts


@pytest.mark.parametrize("name", CAPTURES)
def test_any_chunk_size_gives_the_same_document(name: str) -> None:
    capture = whole(LAB / name)
    expected = analyse([capture])
    for size in (1, 7, 64):
        assert analyse(cut(capture, list(range(size, len(capture), size)))) == expected, size


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("epoch", [16, 50])
def test_reading_connections_on_the_way_gives_the_same_document(name: str, epoch: int) -> None:
    """Connections whose facts are complete may be read early; the facts are those of reading them at the end."""
    capture = whole(LAB / name)

    assert analyse([capture], Limits(epoch_frames=epoch, settle_octets=0)) == analyse([capture])


@settings(max_examples=25)
@given(st.data())
def test_conversations_cut_anywhere(data: st.DataObject) -> None:
    conversations = [
        Conversation(sport=40000 + i, isn=(i * 1000, i * 77))
        .open()
        .send(0, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" * i)
        .close()
        for i in range(1, 6)
    ]
    capture = chunk(frames_of(conversations), gap=bytes(16))
    cuts = data.draw(st.lists(st.integers(1, len(capture) - 1), max_size=6))

    assert analyse(cut(capture, cuts)) == analyse([capture])


@st.composite
def packets_out_of_order(draw: st.DrawFn) -> list[bytes]:
    """Packets between two ports as no two hosts would send them: whoever opens, ends, or comes back, in any order."""
    frames = []
    for _ in range(draw(st.integers(2, 10))):
        side = draw(st.integers(0, 1))
        flags = draw(st.sampled_from([SYN, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, ACK]))
        seq = draw(st.sampled_from([1000, 1001, 1900, 70_000, 900_000, 2**32 - 1]))
        payload = draw(st.sampled_from([b"", b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"])) if flags == ACK else b""
        ends = ((CLIENT, 40000), (SERVER, 10250))
        (source, sport), (target, dport) = ends[side], ends[1 - side]
        acknowledged = draw(st.sampled_from([1001, 70_001])) if flags & ACK else 0
        frames.append(ethernet(ipv4(tcp(payload, sport, dport, seq, acknowledged, flags), source, target)))
    return frames


def flows_of(pieces: list[CaptureChunk], limit: int | None) -> dict[str, Any]:
    decoder, builder = Decoder(), FlowBuilder(limit=limit)
    left_out = 0
    for piece in pieces:
        left_out += builder.add(decoder.decode(piece), piece.octets).left_out
    table, streams = builder.finish(np.arange(len(builder)))
    flows = {field.name: getattr(table, field.name).tolist() for field in fields(table)}
    origin = builder.state.origin.reshape(-1)[streams].tolist()
    return flows | {"origin": origin, "left_out": left_out}


@settings(max_examples=400)
@given(packets_out_of_order(), st.data())
def test_connections_are_told_apart_alike_however_they_are_cut(frames: list[bytes], data: st.DataObject) -> None:
    capture = chunk(frames)
    cuts = data.draw(st.lists(st.integers(1, len(capture) - 1), max_size=4))
    limit = data.draw(st.sampled_from([None, None, 1, 2, 4]))
    one_by_one = flows_of(cut(capture, list(range(1, len(capture)))), limit)

    assert flows_of(cut(capture, cuts), limit) == one_by_one
    assert flows_of([capture], limit) == one_by_one


@settings(max_examples=30)
@given(packets_out_of_order(), st.data())
def test_what_connections_told_apart_say_does_not_depend_on_the_cut(frames: list[bytes], data: st.DataObject) -> None:
    capture = chunk(frames, gap=bytes(16))
    cuts = data.draw(st.lists(st.integers(1, len(capture) - 1), max_size=4))

    assert analyse(cut(capture, cuts)) == analyse([capture])


def cooked(packet: bytes, index: int) -> bytes:
    """A packet as `tcpdump -i any` records it on one of the host's interfaces."""
    return struct.pack(">HHIHBB8s", 0x0800, 0, index, 1, 0, 6, bytes(8)) + packet


def test_fragments_tunnels_and_repeated_records_cut_anywhere() -> None:
    """What the decoder remembers of earlier frames does not depend on where a chunk ends."""
    request = b"GET /a HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"f" * 600 + b"\r\n\r\n"
    inner = Conversation(isn=(5, 6)).open().send(0, request)
    packets = [frame[14:] for frame in inner.frames]
    packets += [ipv4(udp(vxlan(frame, 3), dport=8472), "1.1.1.1", "2.2.2.2", 17) for frame in inner.frames]
    pieces: list[bytes] = []
    for number, packet in enumerate(packets):
        payload = packet[20:]
        step = 256 if len(payload) > 256 else len(payload)
        protocol, ends = packet[9], (str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20])))
        for at in range(0, len(payload), step):
            more = 0x2000 if at + step < len(payload) else 0
            pieces.append(
                ipv4(payload[at : at + step], *ends, protocol, flags_offset=at // 8 | more, identification=number + 1)
            )
    records = [cooked(piece, index) for piece in pieces for index in (4, 2)]
    capture = chunk(
        records, LinkType.LINUX_SLL2, gap=bytes(16), times_ns=[10**18 + i * 1000 for i in range(len(records))]
    )
    expected = analyse([capture])
    document = json.loads(expected)
    assert document["ledger"]["duplicates"] == len(pieces)
    assert [m for m in document["ledger"]["lines"] if "put together" in m[0]] == [
        ["IP datagrams put together from fragments", 2]
    ]
    assert document["connections"]["data"]["protocol"] == ["http/1", "vxlan", "http/1"]

    for size in (1, 2, 3, 7):
        assert analyse(cut(capture, list(range(size, len(capture), size)))) == expected, size
