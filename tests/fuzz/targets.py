"""The three ways in, and what must hold whatever comes: no exception, balanced books, no octet read outside."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.analysis import ClusterContext, conclude, run
from analyzer.capture.source import open_capture
from analyzer.decode import Decoder
from analyzer.errors import PlanewireError
from analyzer.pipeline import Pipeline
from analyzer.registries import LinkType
from analyzer.report.audit_result import CaptureSummary
from analyzer.report.document import build_document
from analyzer.schema import CaptureChunk
from tests.builders import ACK, PSH, SYN, ethernet, ipv4, tcp
from tests.fuzz.mutate import mutate
from tests.fuzz.seeds import Frame

T0 = 1_700_000_000_000_000_000


@dataclass
class Target:
    """One way in: how a batch is made, and how it is taken."""

    name: str
    make: Callable[[random.Random], list[Any]]
    take: Callable[[list[Any]], int]
    """Takes a batch, raises where something does not hold, and returns its octets."""
    batch: int
    inputs: int = 0
    seconds: float = 0.0
    rates: list[float] = field(default_factory=list)  #: seconds an octet, one a batch
    slowest: tuple[float, list[Any]] = (0.0, [])


def chunk_of(frames: Sequence[Frame], interfaces: Sequence[int] | None = None) -> CaptureChunk:
    """Frames of any link types in one chunk, a record header's room before each."""
    lengths = np.array([len(octets) for _, octets in frames], np.int64)
    start = np.cumsum(lengths + 16) - lengths
    n = len(frames)
    return CaptureChunk(
        np.frombuffer(b"".join(bytes(16) + octets for _, octets in frames), np.uint8),
        start,
        lengths,
        lengths + (np.arange(n) % 7 == 3) * 1000,  # some were cut by a snap length
        T0 + np.arange(n, dtype=np.int64) * 1000,
        np.zeros(n, np.int32) if interfaces is None else np.array(interfaces, np.int32),
        np.array([link for link, _ in frames], np.int32),
        1,
    )


def take_frames(frames: list[Frame]) -> int:
    """Decode, count, read, judge; the document of it all is JSON."""
    # Frames of one link type come from one interface, as captures have them; others from two in turn.
    alike = len({link for link, _ in frames}) == 1
    chunk = chunk_of(frames, None if alike else [i % 3 == 2 for i in range(len(frames))])
    decoder = Decoder()
    table = decoder.decode(chunk)
    assert np.array_equal(table.frame[table.depth == 0], np.arange(1, len(frames) + 1))
    assert (table.payload_len >= 0).all()
    captured = table.payload_stop - table.payload_start
    assert (captured >= 0).all()
    assert (table.payload_stop[captured > 0] <= decoder.octets.shape[0]).all()
    analyse([chunk])
    return int(chunk.captured_len.sum())


def analyse(chunks: Sequence[CaptureChunk]) -> None:
    """The whole way from frames to a document."""
    pipeline = Pipeline()
    for chunk in chunks:
        pipeline.add(chunk)
    summary = CaptureSummary("fuzz", "pcap", 0, pipeline.ledger.frames, pipeline.first_ns, pipeline.last_ns)
    result = conclude(pipeline.evidence(), pipeline.ledger, [summary], ClusterContext())
    assert result.ledger.balanced, (result.ledger.outer, result.ledger.inner, result.ledger.in_flows)
    json.dumps(build_document(result))


def take_files(captures: list[bytes]) -> int:
    """Read each as a capture of unknown format: a report, or one clear line."""
    total = 0
    for octets in captures:
        total += max(len(octets), LEAST)
        try:
            with open_capture("-", stdin=io.BytesIO(octets)) as reader:
                result = run(reader)
        except PlanewireError as error:
            refusal = str(error)
        else:
            refusal = ""
            assert result.ledger.balanced
        assert "\n" not in refusal
    return total


LEAST = 4096
"""Octets a small capture counts for when time is set against size: opening one costs the same whatever it holds."""


def take_streams(connections: list[tuple[bytes, bytes]]) -> int:
    """Each pair of directions as one TCP connection whose handshake was seen."""
    frames: list[bytes] = []
    for number, (client, server) in enumerate(connections):
        address, port = f"10.{number >> 8 & 255}.{number & 255}.7", 20_000 + number % 40_000
        ends = (address, "10.96.0.1", port, 6443), ("10.96.0.1", address, 6443, port)
        for side, flags in ((0, SYN), (1, SYN | ACK)):
            src, dst, sport, dport = ends[side]
            frames.append(ethernet(ipv4(tcp(b"", sport, dport, 999, 1000 * side, flags), src, dst)))
        for side, octets in ((0, client), (1, server)):
            src, dst, sport, dport = ends[side]
            for at in range(0, len(octets), 1400):
                segment = tcp(octets[at : at + 1400], sport, dport, 1000 + at, 1000, ACK | PSH)
                frames.append(ethernet(ipv4(segment, src, dst)))
    chunk = chunk_of([(1, frame) for frame in frames])
    analyse([CaptureChunk(**{**_columns(chunk), "wire_len": chunk.captured_len})])
    return int(chunk.captured_len.sum())


def _columns(chunk: CaptureChunk) -> dict[str, Any]:
    return {name: getattr(chunk, name) for name in CaptureChunk.__dataclass_fields__}


def targets(frames: Sequence[Frame], files: Sequence[bytes], streams: Sequence[tuple[bytes, bytes]]) -> list[Target]:
    """The three of them over the given seeds."""
    octets = [frame for _, frame in frames]
    plain = [
        frame[14:] for link, frame in frames if link == 1 and frame[12:15] == b"\x08\x00\x45" and frame[23:24] == b"\6"
    ]

    def make_frames(rng: random.Random) -> list[Frame]:
        batch: list[Frame] = []
        if rng.random() < 0.5 and plain:
            # One link type and, for the most part, the usual frames: those take a way of their own.
            usual = rng.choice([LinkType.ETHERNET, LinkType.ETHERNET, LinkType.LINUX_SLL, LinkType.LINUX_SLL2])
            header = {LinkType.ETHERNET: 14, LinkType.LINUX_SLL: 16, LinkType.LINUX_SLL2: 20}[usual]
            for _ in range(4096):
                body = rng.choice(plain)
                front = bytearray(header)
                front[0 if header == 20 else header - 2 : 2 if header == 20 else header] = b"\x08\x00"
                frame = bytes(front) + (body if rng.random() < 0.3 else mutate(body, octets, rng))
                if rng.random() < 0.1:
                    frame = mutate(frame, octets, rng)
                batch.append((int(usual), frame))
            return batch
        for _ in range(4096):
            link, frame = rng.choice(frames)
            batch.append((link if rng.random() < 0.9 else rng.choice(frames)[0], mutate(frame, octets, rng)))
        return batch

    def make_files(rng: random.Random) -> list[bytes]:
        return [mutate(rng.choice(files), files, rng) for _ in range(16)]

    def make_streams(rng: random.Random) -> list[tuple[bytes, bytes]]:
        batch = []
        sides = [side for pair in streams for side in pair]
        for _ in range(256):
            client, server = rng.choice(streams)
            which = rng.randrange(3)
            batch.append(
                (
                    mutate(client, sides, rng) if which != 1 else client,
                    mutate(server, sides, rng) if which != 0 else server,
                )
            )
        return batch

    return [
        Target("frames", make_frames, take_frames, 4096),
        Target("connections", make_streams, take_streams, 256),
        Target("captures", make_files, take_files, 16),
    ]


def run_batch(target: Target, batch: list[Any]) -> None:
    """Take one batch and its time."""
    begin = time.process_time()
    octets = target.take(batch)
    spent = time.process_time() - begin
    target.inputs += len(batch)
    target.seconds += spent
    rate = spent / max(octets, 1)
    target.rates.append(rate)
    if rate > target.slowest[0]:
        target.slowest = (rate, batch)


def shrink(target: Target, batch: list[Any]) -> list[Any]:
    """The fewest inputs of a failing batch that still fail, by halving."""

    def fails(part: list[Any]) -> bool:
        try:
            target.take(part)
        except Exception:
            return True
        return False

    size = max(len(batch) // 2, 1)
    while size:
        at = 0
        while at < len(batch) and len(batch) > 1:
            rest = batch[:at] + batch[at + size :]
            if rest and fails(rest):
                batch = rest
            else:
                at += size
        size //= 2
    return batch
