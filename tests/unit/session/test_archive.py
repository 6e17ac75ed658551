"""Connections leave memory, and what is said of the cluster stays the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.report.schema_document import Document
from analyzer.session import Ageing, LiveSession
from tests.conftest import all_lab_captures
from tests.unit.session.feeding import from_file, live

RECORDINGS = [path for path in all_lab_captures() if path.stat().st_size > 100]


def eager(retain: int, stand_ins: int = 5_000) -> LiveSession:
    """A session that lets go of connections as soon as they are closed."""
    ageing = Ageing(closed_s=0.01, half_closed_s=2.0, unanswered_s=2.0, udp_s=2.0, udp_stream_s=10.0)
    return LiveSession(
        ageing=Ageing(**{**{f: getattr(ageing, f) for f in ageing.__slots__}, "retain": retain, "stand_ins": stand_ins})
    )


def channels(document: Document) -> dict[str, object]:
    told = ("verdict", "sentence", "connections", "silent", "packets", "octets", "encryption", "client_certificate")
    return {row["id"]: [row[name] for name in (*told, "server_verification", "grades")] for row in document["channels"]}


@pytest.mark.parametrize("retain", [0, 5])
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_forgetting_changes_nothing_that_is_said_of_channels(path: Path, retain: int) -> None:
    whole = from_file(path)
    seen, _ = live(path, eager(retain), most=400 if path.stat().st_size < 3_000_000 else 6000)

    assert channels(seen) == channels(whole)
    assert [(f["id"], f["grade"]) for f in seen["findings"]] == [(f["id"], f["grade"]) for f in whole["findings"]]
    assert [r["counts"] for r in seen["rules"]] == [r["counts"] for r in whole["rules"]]
    assert seen["summary"]["answer"] == whole["summary"]["answer"]
    assert seen["ledger"]["balanced"]
