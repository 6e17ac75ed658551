"""The terminal summary: what a person sees, in any width and encoding, and nothing that a capture could slip in."""

from __future__ import annotations

import io
import re
import shlex
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from analyzer.report.commands import next_commands
from analyzer.report.terminal import render
from analyzer.report.terminal_style import dominant
from analyzer.report.text import visible
from tests.document_example import HOSTILE, example_document


def _rendered(document: Any, width: int = 80, **options: Any) -> str:
    out = io.StringIO()
    render(document, Console(file=out, width=width, **options))
    return out.getvalue()


def _before_commands(text: str) -> list[str]:
    return text[: text.index("\nNext\n")].splitlines()


@pytest.mark.parametrize("width", [80, 111, 112, 200])
@pytest.mark.parametrize("connections", [0, 1, 40, 2000])
def test_it_fits_the_terminal(width: int, connections: int) -> None:
    lines = _before_commands(_rendered(example_document(connections, 9), width))
    assert max(cell_len(line) for line in lines) <= width


def test_commands_are_never_folded() -> None:
    document: Any = example_document(40)
    document["captures"][0]["name"] = "a very/long path/" + "x" * 90 + "/it's here.pcap"
    text = _rendered(document)
    for command, _ in next_commands(document):
        assert f"\n    {command}\n" in text
        assert shlex.split(command)[0] in ("planewire", "tshark")
    assert any(document["captures"][0]["name"] in shlex.split(command) for command, _ in next_commands(document))


def test_nothing_of_the_capture_reaches_the_terminal_unescaped() -> None:
    document: Any = example_document(40)
    document["captures"][0]["name"] = "".join(HOSTILE)
    document["summary"]["answer"] = HOSTILE[5]
    for finding, text in zip(document["findings"], HOSTILE[2:], strict=False):
        finding["message"] = text
        finding["filter"] = text
        finding["frames"] = []
    plain = _rendered(document, 200)
    assert all(character == "\n" or character.isprintable() for character in plain)
    assert "[bold red]markup[/bold red]" in plain
    coloured = _rendered(document, 200, force_terminal=True, color_system="truecolor")
    # Only what rich itself writes: select graphic rendition.
    assert "\x1b[" in coloured
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert visible(HOSTILE[2]) in re.sub(r"\x1b\[[0-9;]*m", "", coloured)


def test_colour_says_nothing_that_the_words_do_not() -> None:
    document = example_document(40)
    coloured = _rendered(document, 120, force_terminal=True, color_system="truecolor")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == _rendered(document, 120)


def test_the_worst_comes_first_and_every_answer_has_its_grade() -> None:
    text = _rendered(example_document(40), 160)
    places = [text.index(word) for word in ("✗ at-risk", "? undecidable ", "✓ sound", "· informational")]
    assert places == sorted(places)
    severities = [text.index(f" {word} PW") for word in ("CRITICAL ", "HIGH ", "LOW  SUPPRESSED ")]
    assert severities == sorted(severities)
    (row,) = [line for line in text.splitlines() if "API server to kubelet" in line and "at-risk" in line]
    assert re.search(r"encrypted ✓ observed\s+presented ✓ inferred\s+unverified ✗ inferred\s+5", row)


def test_findings_say_what_to_do_and_where_it_is_seen() -> None:
    document = example_document(40)
    text = " ".join(_rendered(document, 200).split())
    for finding in document["findings"]:
        assert finding["code"] in text
        assert f"Do: {finding['remediation']}" in text
        assert "Frames: " + " ".join(map(str, finding["frames"][:5])) in text
        for flag in finding["flags"]:
            assert f"Set: {flag}" in text
    for note in document["summary"]["not_judged"]:
        assert note in text


def test_long_lists_are_cut_and_say_so() -> None:
    document: Any = example_document(2000)
    document["findings"] = document["findings"] * 10
    text = _rendered(document, 120)
    assert "and 20 more: they are in every other output." in text
    assert re.search(r"Frames: (\d+ ){8}and \d+ more", text)


def test_it_writes_plain_ascii_where_the_terminal_has_no_more() -> None:
    octets = io.BytesIO()
    stream = io.TextIOWrapper(octets, encoding="ascii", errors="strict")
    render(example_document(40), Console(file=stream, width=120))
    stream.flush()
    assert b"x at-risk" in octets.getvalue()


def test_without_findings_it_says_so() -> None:
    document: Any = example_document(40)
    document["findings"] = []
    text = _rendered(document)
    assert "Findings: none." in text
    assert text.count("    planewire ") == 3


def test_an_unbalanced_ledger_is_not_hidden() -> None:
    document: Any = example_document(12)
    document["ledger"]["balanced"] = False
    assert "does not balance" in _rendered(document)


def test_given_commands_replace_the_default_ones() -> None:
    out = io.StringIO()
    render(example_document(), Console(file=out, width=80), next_commands=[("planewire live eth0", "Watch")])
    assert out.getvalue().endswith("Watch\n    planewire live eth0\n")


def test_half_in_cleartext_is_not_shown_as_encrypted() -> None:
    document: Any = example_document(40)
    channel = document["channels"][0]
    channel["encryption"] = {"encrypted": 5, "cleartext": 5, "undecidable": 0}
    assert dominant(channel, "encryption") == ("cleartext", "observed", 5, 10)
    assert "5 of 10" in _rendered(document)
