"""The ledger on a terminal: all of it, before the verdicts, and nothing from a capture acts upon the terminal."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from analyzer.report.terminal import render, render_ledger
from tests.document_example import HOSTILE, example_document


def printed(document: dict[str, Any], *, verdicts: bool = False, encoding: str = "utf-8", width: int = 160) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    (render if verdicts else render_ledger)(document, Console(file=stream, width=width, color_system=None))
    stream.seek(0)
    return stream.read()


def made() -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(dict(example_document(40)))
    return document


def test_every_line_of_the_ledger_is_there() -> None:
    document = made()
    text = printed(document)
    for label, number in document["ledger"]["lines"]:
        assert any(label in line and f"{number:,}" in line for line in text.splitlines()), label
    assert "Balanced." in text
    document["ledger"]["balanced"] = False
    assert "Not balanced" in printed(document)
    assert "does not balance" in printed(document, verdicts=True)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_a_capture_says_of_itself_is_inert(encoding: str) -> None:
    document = made()
    point = document["vantage_points"][0]
    document["captures"] *= 2
    document["vantage_points"] = [{**point, "name": name, "assumed": name} for name in HOSTILE]
    document["quality"]["notes"] = [f"{HOSTILE[0]} and {HOSTILE[1]} both saw 3 of the connections"]
    document["skipped"] = {"count": 2, "files": [{"name": n, "reason": n, "named": True} for n in HOSTILE[:2]]}
    document["endpoints"][0]["capture_names"] = list(HOSTILE)
    for text in (printed(document, encoding=encoding), printed(document, verdicts=True, encoding=encoding)):
        assert not [c for c in text if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize(
    ("dropped", "says"),
    [
        (None, "not recorded"),
        (0, "states that no frame was dropped on 1 of 2 interfaces"),
        (7, "7 frames of 363 received were dropped on 1 of 2 interfaces"),
    ],
)
def test_drops_are_told_as_the_capture_tells_them(dropped: int | None, says: str) -> None:
    document = made()
    document["quality"]["dropped"] = dropped
    document["captures"][0]["interfaces"][0]["dropped"] = dropped
    assert says in printed(document)


def test_shares_stand_before_the_answer() -> None:
    document = made()
    share = document["quality"]["shares"][0]
    document["quality"]["shares"].append(
        {**share, "name": "cut_by_snaplen", "connections": share["connections"] // 2, "meaning": "cut off"}
    )
    text = printed(document, verdicts=True)
    assert text.index("cut by snap length") < text.index(document["summary"]["answer"])
    assert "50 %" in text


@pytest.mark.parametrize("width", [80, 111, 112, 200])
def test_what_a_share_means_can_be_read_at_any_width(width: int) -> None:
    """In its column where there is room, else in lines of their own below the table; never in shreds."""
    document = made()
    document["quality"]["shares"][0]["meaning"] = "versions, names and who authenticated can be judged"
    text = printed(document, width=width)
    assert any("versions, names and who" in line for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= width
