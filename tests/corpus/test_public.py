"""Every public capture ends in a report whose books balance, or in one clear error; nothing hangs, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.capture.source import open_capture
from analyzer.errors import PlanewireError
from analyzer.pipeline import run
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
        with open_capture(str(path)) as reader:
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
def test_pages_of_public_captures_can_be_made() -> None:
    for name in list(captures())[::40]:
        document, _ = analyse(PUBLIC / name)
        if document is not None:
            assert render_html(document).startswith("<!doctype html>")
