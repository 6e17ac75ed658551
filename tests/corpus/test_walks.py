"""The fast record walk gives what the serial walk gives, on every capture there is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from analyzer.capture import pcapng, records
from analyzer.capture.source import open_capture
from analyzer.errors import PlanewireError
from tests.conftest import SHARED, all_lab_captures
from tests.corpus.test_public import PUBLIC, captures

NEVER = 1 << 60


def read(path: Path) -> list[object] | str:
    """All that a reader says of a capture: frames with their octets, as a digest a chunk; or the refusal."""
    try:
        with open_capture(str(path)) as reader:
            told: list[object] = []
            digest = hashlib.sha256()
            for chunk in reader:
                for column in (chunk.captured_len, chunk.wire_len, chunk.time_ns, chunk.interface, chunk.link_type):
                    digest.update(np.ascontiguousarray(column).tobytes())
                # Octets of the frames without what lies between them.
                for start, length in zip(chunk.start.tolist(), chunk.captured_len.tolist(), strict=True):
                    digest.update(chunk.octets[start : start + length].tobytes())
                told.append((chunk.first_frame, len(chunk)))
            return [*told, digest.hexdigest(), reader.damage, reader.comments, reader.interfaces]
    except PlanewireError as error:
        return str(error)


def both(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, object]:
    monkeypatch.setattr(records, "_MIN_LANES", NEVER)
    serial = read(path)
    # Lanes so short, and so few of them, that small files are walked in lockstep too.
    monkeypatch.setattr(records, "_MIN_LANES", 2)
    monkeypatch.setattr(records, "_LANE_OCTETS", records.WINDOW)
    monkeypatch.setattr(pcapng, "_FIRST_SPAN", 1 << 20)
    return serial, read(path)


@pytest.mark.corpus
def test_every_public_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    lockstep = 0
    walk = records._lockstep

    def counted(*args: object) -> object:
        nonlocal lockstep
        lockstep += 1
        return walk(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(records, "_lockstep", counted)
    for name in captures():
        serial, fast = both(PUBLIC / name, monkeypatch)
        assert fast == serial, name
    assert lockstep > 450, "the fast walk was hardly ever taken"


def test_every_lab_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = all_lab_captures()
    assert len(paths) > 40 or not SHARED.is_dir()
    for path in paths:
        serial, fast = both(path, monkeypatch)
        assert fast == serial, path.name
