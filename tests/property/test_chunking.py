"""The result does not depend on how the input was cut, nor on when connections are read on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.capture.source import open_capture
from analyzer.pipeline import ClusterContext, Limits, Pipeline, conclude
from analyzer.report.document import CaptureSummary, build_document
from analyzer.schema import CaptureChunk
from tests.builders import Conversation, chunk, frames_of
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


def whole(path: Path) -> CaptureChunk:
    """The whole capture as one chunk of its own memory."""
    with open_capture(str(path)) as reader:
        parts = [
            (c, c.octets.copy())
            for c in reader  # the reader may reuse its buffer: copied at once
        ]
    offset, octets, columns = 0, [], []
    for part, copied in parts:
        octets.append(copied)
        columns.append(
            (part.start + offset, part.captured_len, part.wire_len, part.time_ns, part.interface, part.link_type)
        )
        offset += copied.shape[0]
    merged = [np.concatenate(c) for c in zip(*columns, strict=True)]
    return CaptureChunk(np.concatenate(octets), *merged, 1)


def cut(chunk_: CaptureChunk, at: list[int]) -> list[CaptureChunk]:
    edges = [0, *sorted(set(at)), len(chunk_)]
    return [
        CaptureChunk(
            chunk_.octets,
            *(
                getattr(chunk_, n)[a:b]
                for n in ("start", "captured_len", "wire_len", "time_ns", "interface", "link_type")
            ),
            chunk_.first_frame + a,
        )
        for a, b in zip(edges, edges[1:], strict=False)
        if b > a
    ]


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

    assert analyse([capture], Limits(epoch_frames=epoch)) == analyse([capture])


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
