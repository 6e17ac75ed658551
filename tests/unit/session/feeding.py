"""A recording as a live session gets it: in pieces, with looks in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.pipeline import Limits
from analyzer.report.document import build_document
from analyzer.report.live_view import LiveView
from analyzer.report.schema_document import Document, as_document
from analyzer.schema import CaptureChunk
from analyzer.session import Ageing, LiveSession


def pieces(chunk: CaptureChunk, chance: random.Random, most: int) -> Iterator[CaptureChunk]:
    """The same frames in chunks of random sizes up to `most`."""
    start = 0
    while start < len(chunk):
        part = slice(start, start + chance.randint(1, most))
        columns = {
            name: getattr(chunk, name)[part]
            for name in ("start", "captured_len", "wire_len", "time_ns", "interface", "link_type")
        }
        yield replace(chunk, **columns, first_frame=chunk.first_frame + start)
        start = part.stop


def from_file(path: Path) -> Document:
    """What `analyze` says of a recording, with the limit of a live session."""
    with open_capture(str(path)) as reader:
        return as_document(build_document(run(reader, limits=Limits(max_flows=2 * Ageing().most))))


def live(path: Path, session: LiveSession, seed: int = 0, most: int = 400) -> tuple[Document, list[LiveView]]:
    """What a session says of it at the end, and what it showed on the way; it is looked at after each piece or so."""
    chance = random.Random(seed)
    views = []
    now_ns = 0
    with open_capture(str(path)) as reader:
        comments = secrets = 0
        for chunk in reader:
            for key_log in reader.secrets[secrets:]:
                session.use_secrets(key_log)
            secrets = len(reader.secrets)
            for piece in pieces(chunk, chance, most):
                session.add(piece, reader.comments[comments:])
                comments = len(reader.comments)
                if chance.random() < 0.7:
                    now_ns += 500_000_000
                    views.append(session.tick(now_ns))
                if chance.random() < 0.05:
                    build_document(session.result(reader))
        views.append(session.tick(now_ns + 60_000_000_000))
        return as_document(build_document(session.result(reader))), views
