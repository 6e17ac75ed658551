"""What mutations start from: frames, captures and streams of the lab's recordings and, where present, public ones."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import lz4.frame
import numpy as np
import zstandard

from analyzer.capture.source import open_capture
from analyzer.decode import Decoder
from analyzer.errors import PlanewireError
from analyzer.flows import FlowBuilder
from analyzer.heads import HeadCollector
from tests.conftest import LAB, SHARED

_COMPRESSORS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    gzip.compress,
    bz2.compress,
    lzma.compress,
    zstandard.compress,
    lz4.frame.compress,
)

Frame = tuple[int, bytes]
"""Link type and octets."""


def captures(rng: random.Random, most: int) -> list[Path]:
    """The lab's recordings and a choice of the public ones."""
    found = sorted(p for p in LAB.iterdir() if p.suffix in {".pcap", ".pcapng", ".gz"})
    manifest = SHARED / "public" / "manifest.json"
    if manifest.is_file():
        public = [SHARED / "public" / entry["file"] for entry in json.loads(manifest.read_text())]
        found += rng.sample(public, min(most, len(public)))
    return found


def frames(paths: list[Path], rng: random.Random, each: int = 12) -> list[Frame]:
    """Some frames of every capture, the first ones always."""
    out: list[Frame] = []
    for path in paths:
        try:
            with open_capture(str(path)) as reader:
                chunk = next(iter(reader), None)
                if chunk is None:
                    continue
                rows = list(range(min(len(chunk), each // 2)))
                rows += rng.sample(range(len(chunk)), min(len(chunk), each // 2))
                for row in rows:
                    start = int(chunk.start[row])
                    octets = chunk.octets[start : start + int(chunk.captured_len[row])].tobytes()
                    out.append((int(chunk.link_type[row]), octets[:2048]))
        except PlanewireError:
            continue
    return out


def files(paths: list[Path], rng: random.Random, largest: int = 24_000) -> list[bytes]:
    """Whole captures, the small ones as they are and some compressed again."""
    out: list[bytes] = []
    for path in paths:
        octets = path.read_bytes()
        if len(octets) > largest:
            if path.suffix == ".gz":
                continue
            octets = octets[:largest]  # cut inside a record: a beginning like any
        out.append(octets)
        if rng.random() < 0.15:
            out.append(rng.choice(_COMPRESSORS)(octets))
    return out


def streams(paths: list[Path]) -> list[tuple[bytes, bytes]]:
    """The first octets of both directions of TCP connections, client's and server's."""
    return [pair for path in paths for pair in _streams_of(path)]


def _streams_of(path: Path) -> Iterator[tuple[bytes, bytes]]:
    decoder, flows = Decoder(), FlowBuilder()
    heads = HeadCollector(flows)
    try:
        with open_capture(str(path)) as reader:
            for chunk in reader:
                table = decoder.decode(chunk)
                heads.add(table, flows.add(table, decoder.octets), decoder.octets)
    except PlanewireError:
        return
    if not len(flows):
        return
    _, numbers = flows.finish(np.arange(len(flows)))
    assembled = heads.assemble(numbers.reshape(-1))
    for row in range(min(len(flows), 60)):
        client, server = (assembled.head(2 * row + side).tobytes()[:6000] for side in (0, 1))
        if client or server:
            yield client, server
