"""Every public capture ends in a report whose books balance, or in one clear error; nothing hangs, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import run
from analyzer.capture.discovery import Source, open_captures
from analyzer.errors import PlanewireError
from analyzer.pipeline import Pipeline
from analyzer.report.document import build_document
from analyzer.report.html import render_html
from analyzer.report.tables import json_text
from tests.conftest import SHARED

PUBLIC = SHARED / "public"


def captures() -> Iterator[str]:
    """Name of every public capture."""
    if (PUBLIC / "manifest.json").is_file():
        for entry in json.loads((PUBLIC / "manifest.json").read_text()):
            yield entry["file"]


GROUPS = sorted({name.split("/", 1)[0] for name in captures()}) or ["none"]


def analyse(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The document, or the one line that says why there is none."""
    try:
        with open_captures([Source(str(path))]) as reader:
            return build_document(run(reader)), ""
    except PlanewireError as error:
        return None, str(error)


@pytest.mark.corpus
@pytest.mark.parametrize("group", GROUPS)
def test_every_capture_is_read_or_refused_in_one_line(group: str) -> None:
    read = 0
    for name in captures():
        if name.split("/", 1)[0] != group:
            continue
        document, refusal = analyse(PUBLIC / name)
        if document is None:
            assert Path(name).name in refusal
            assert "\n" not in refusal, name
            continue
        read += 1
        ledger = document["ledger"]
        assert ledger["balanced"], (name, ledger["lines"])
        assert ledger["frames"] == document["captures"][0]["frames"]
        assert sum(document["connections"]["data"]["packets"]) == ledger["packets_in_flows"], name
        json_text(document)
    assert read > 0


@pytest.mark.corpus
@pytest.mark.parametrize("group", GROUPS)
def test_a_folder_of_captures_is_accounted_for_as_a_whole(group: str) -> None:
    """Hundreds of captures in one run, damaged ones among them: what became of each is what becomes of it alone."""
    together, alone = Pipeline(), {}
    with open_captures([Source(str(PUBLIC / group))]) as reader:
        for chunk in reader:
            together.add(chunk)
        for number, origin in enumerate(reader.origins):
            alone[origin.name] = (together.book(number).ledger.frames, len(origin.damage))
            assert together.book(number).ledger.balanced, origin.name
    assert together.ledger.balanced
    for name, found in alone.items():
        with open_captures([Source(name)]) as reader:
            frames = sum(len(chunk) for chunk in reader)
            assert (frames, len(reader.damage)) == found, name
    assert together.ledger.frames == sum(frames for frames, _ in alone.values())


@pytest.mark.corpus
def test_pages_of_public_captures_can_be_made() -> None:
    for name in list(captures())[::40]:
        document, _ = analyse(PUBLIC / name)
        if document is not None:
            assert render_html(document).startswith("<!doctype html>")
