"""Forgetting flows changes nothing of what is said of the others, whenever it is done and whichever they are."""

from __future__ import annotations

import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.capture.source import open_capture
from analyzer.pipeline import Limits, Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.schema import TLS_STRINGS, FlowTable, TlsFacts
from tests.conftest import all_lab_captures
from tests.unit.session.feeding import pieces

RECORDINGS = [path for path in all_lab_captures() if 100 < path.stat().st_size < 2_000_000]
LIMITS = {
    "as they are": Limits(),
    "settled often": Limits(epoch_frames=64, settle_octets=4096, late_octets=512),
    "short heads": Limits(head_octets=600),
}

Facts = dict[tuple[object, ...], dict[str, object]]


def facts(evidence: Evidence) -> Facts:
    """All that is known of each flow, by what nothing renumbers."""
    flows, tls = evidence.flows, evidence.tls
    own = len(evidence) - evidence.carriers.shape[0]
    keys = [
        (int(flows.first_frame[row]), flows.address[row].tobytes(), flows.port[row].tobytes(), int(flows.protocol[row]))
        for row in range(own)
    ]
    found: Facts = {}
    for row, key in enumerate(keys):
        said: dict[str, object] = {
            column.name: getattr(flows, column.name)[row].tolist()
            for column in fields(FlowTable)
            if column.name not in ("encapsulation", "signature_frame")
        }
        said["path"] = evidence.paths[int(flows.encapsulation[row])]
        said["identification"] = [
            getattr(evidence.identification, f.name)[row] for f in fields(evidence.identification)
        ]
        for name in ("from_start", "gap", "conflict", "crowded"):
            said[name] = getattr(evidence, name)[row].tolist()
        said["lead"] = keys[int(evidence.root[row])]
        said["comments"] = evidence.comments.get(row)
        mine = evidence.traffic.flow == row
        said["traffic"] = [getattr(evidence.traffic, n)[mine].tolist() for n in ("bin", "packets", "octets")]
        said["carries"] = int((evidence.carriers == row).sum())
        found[key] = said
    for place, flow in enumerate(tls.facts.flow.tolist()):
        if flow < own:
            found[keys[flow]]["tls"] = _tls(evidence, place)
    for message in evidence.cleartext.http:
        if message.flow < own:
            values = tuple(getattr(message, f.name) for f in fields(message) if f.name != "flow")
            found[keys[message.flow]].setdefault("http", []).append(values)  # type: ignore[attr-defined]
    for one in evidence.cleartext.ssh:
        if one.flow < own:
            found[keys[one.flow]]["ssh"] = [getattr(one, f.name) for f in fields(one) if f.name != "flow"]
    return found


def _tls(evidence: Evidence, place: int) -> dict[str, Any]:
    tls = evidence.tls
    said: dict[str, Any] = {}
    for column in fields(TlsFacts):
        value = int(getattr(tls.facts, column.name)[place])
        if column.name in TLS_STRINGS:
            said[column.name] = tls.strings[value] if value >= 0 else None
        elif column.name.endswith("_chain"):
            said[column.name] = [tls.certificates[c].sha256 for c in tls.chains[value]] if value >= 0 else None
        elif column.name != "flow":
            said[column.name] = value
    return said


def read(path: Path, limits: Limits, whole: Evidence | None, seed: int) -> Evidence:
    """Evidence of a recording; where that of the whole is given, with flows forgotten on the way once they are over."""
    chance = random.Random(seed)
    pipeline = Pipeline(limits)
    last = {} if whole is None else _last_frames(whole)
    with open_capture(str(path)) as reader:
        for chunk in reader:
            for key_log in reader.secrets:
                pipeline.use_secrets(key_log)
            for piece in pieces(chunk, chance, 300):
                pipeline.add(piece, reader.comments)
                if whole is not None and chance.random() < 0.5:
                    _forget_some(pipeline, last, chance)
    return pipeline.evidence()


def _last_frames(whole: Evidence) -> dict[int, int]:
    """The last frame of each connection with its legs, by the first frame of every flow of it."""
    latest = np.zeros(len(whole), np.int64)
    np.maximum.at(latest, whole.root, whole.flows.last_frame)
    return dict(zip(whole.flows.first_frame.tolist(), latest[whole.root].tolist(), strict=True))


def _forget_some(pipeline: Pipeline, last: dict[int, int], chance: random.Random) -> None:
    count = len(pipeline.flows)
    first = pipeline.flows.state.first_frame[:count].tolist()
    ends = [last[frame] for frame in first]
    # Flows of one connection have the same end: they go together.
    gone = {end for end in set(ends) if end < pipeline.frames and chance.random() < 0.5}
    kept = np.array([flow for flow, end in enumerate(ends) if end not in gone], np.int64)
    into = np.full(count, -1, np.int64)
    into[kept] = kept
    pipeline.keep(kept, into)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_what_remains_is_as_if_nothing_had_been_forgotten(path: Path, limits: Limits) -> None:
    whole = read(path, limits, None, 0)
    expected = facts(whole)
    left = facts(read(path, limits, whole, len(path.stem)))

    assert len(expected) == len(whole) - whole.carriers.shape[0]
    assert left == {key: expected[key] for key in left}
