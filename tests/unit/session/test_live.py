"""A live session says of the same packets what `analyze` says of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.session import LiveSession
from tests.conftest import all_lab_captures
from tests.unit.session.feeding import from_file, live


@pytest.mark.parametrize("path", all_lab_captures(), ids=lambda path: path.stem)
def test_the_result_is_that_of_the_file(path: Path) -> None:
    seen, _ = live(path, LiveSession(), most=400 if path.stat().st_size < 3_000_000 else 6000)

    assert seen == from_file(path)


@pytest.mark.parametrize("path", all_lab_captures(), ids=lambda path: path.stem)
def test_the_last_look_shows_what_the_report_says(path: Path) -> None:
    document, views = live(path, LiveSession(), seed=1, most=6000)

    last = views[-1]
    told = {
        row["id"]: (row["verdict"], row["connections"], row["packets"], row["octets"]) for row in document["channels"]
    }
    shown = {row.id: (row.verdict, row.connections, row.packets, row.octets) for row in last.channels}
    assert shown == told
    assert [f.identity for f in last.findings] == [f["id"] for f in document["findings"]]
    assert all(row.open <= row.connections for row in last.channels)
