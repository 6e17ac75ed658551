"""What a live session no longer lists is said in every output, and the document stays what the schema says."""

from __future__ import annotations

import io

import jsonschema
import pytest
from rich.console import Console

from analyzer.report.aged_out import MAX_GROUPS, aged_out_notes
from analyzer.report.html import render_html
from analyzer.report.markdown import markdown_text
from analyzer.report.schema_document import AgedOut, AgedOutGroup, Document, published_schema
from analyzer.report.terminal import render, render_ledger
from tests.document_example import example_document


def group(number: int) -> AgedOutGroup:
    return {
        "channel": "node-to-apiserver",
        "title": f"Kind {number}",
        "encryption": "encrypted",
        "client_certificate": "presented",
        "server_verification": "undecidable",
        "connections": 4321,
        "packets": 98765,
        "octets": 5,
    }


def aged(groups: int = 1, without: int = 0, early: int = 0) -> Document:
    document = example_document()
    gone: AgedOut = {
        "connections": 4321 * groups,
        "packets": 98765 * groups,
        "octets": 5 * groups,
        "without_stand_in": without,
        "early": early,
        "first_time": "2026-11-20T00:00:00.000000000Z",
        "last_time": "2026-11-25T12:30:00.000000000Z",
        "groups": [group(number) for number in range(groups)],
    }
    document["aged_out"] = gone
    return document


def on_terminal(document: Document, *, ledger: bool) -> str:
    console = Console(file=io.StringIO(), width=300)
    (render_ledger if ledger else render)(document, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def outputs(document: Document) -> dict[str, str]:
    return {
        "terminal": on_terminal(document, ledger=False),
        "ledger": on_terminal(document, ledger=True),
        "markdown": markdown_text(document),
        "html": render_html(document),
    }


@pytest.mark.parametrize("output", ["terminal", "ledger", "markdown", "html"])
def test_every_output_says_what_aged_out(output: str) -> None:
    told = outputs(aged(without=77, early=88))[output]

    for expected in ("4,321", "98,765 packets", "2026-11-20 00:00:00 UTC", "2026-11-25 12:30:00 UTC", "77", "88"):
        assert expected in told
    assert ("Kind 0" in told) == (output != "terminal")


@pytest.mark.parametrize("output", ["terminal", "ledger", "markdown", "html"])
def test_a_file_has_nothing_of_the_kind(output: str) -> None:
    assert "have left memory" not in outputs(example_document())[output]
    assert "aged out" not in outputs(example_document())[output]
    assert not aged_out_notes(example_document())


@pytest.mark.parametrize("output", ["ledger", "markdown"])
def test_many_groups_are_cut_and_said_to_be(output: str) -> None:
    told = outputs(aged(groups=MAX_GROUPS + 3))[output]

    assert f"Kind {MAX_GROUPS - 1}" in told
    assert f"Kind {MAX_GROUPS}" not in told
    assert "and 3 more" in told.lower()


def test_the_schema_knows_it() -> None:
    jsonschema.validate(aged(), published_schema())
