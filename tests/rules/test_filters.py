"""The display filter of every finding works in Wireshark: accepted, and it selects the frames that show the finding."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analyzer.report.document import build_document
from analyzer.rules import RULES
from tests.conftest import LAB, lab_captures
from tests.rules.cases import recorded

pytestmark = pytest.mark.tshark

PORTS_WIRESHARK_DOES_NOT_KNOW = frozenset({"PW109"})
"""VXLAN on flannel's port 8472: without "decode as" its inside has no fields, and the numbers of the frames remain."""


def selected(path: Path, display_filter: str) -> set[int]:
    command = ["tshark", "-n", "-r", str(path), "-Y", display_filter, "-T", "fields", "-e", "frame.number"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {int(number) for number in done.stdout.split()}


@cache
def shown() -> dict[str, tuple[Path, dict[str, Any]]]:
    """For each code, the recording of the repository in which it is found first, and the finding."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in lab_captures():
        if "-fmt-" in path.name:
            continue
        for finding in build_document(recorded(path.name))["findings"]:
            found.setdefault(finding["code"], (path, finding))
    return found


def test_every_filter_is_accepted() -> None:
    every = " || ".join(f"({rule.filter})" for rule in RULES)

    assert selected(LAB / "29-fmt-empty.pcap", every) == set()


@pytest.mark.parametrize("code", [rule.code for rule in RULES])
def test_the_filter_selects_the_evidence(code: str) -> None:
    if code not in shown():
        return  # no recording violates it; that its filter is accepted is tested above
    path, finding = shown()[code]

    assert set(finding["frames"]) <= selected(path, finding["filter"])
    around = finding["filter"].split(" || frame.number in ")[0]
    if code not in PORTS_WIRESHARK_DOES_NOT_KNOW:
        assert selected(path, around), "the rule's own part of the filter shows nothing"


def test_most_rules_are_shown_by_a_recording() -> None:
    assert len(shown()) >= 20
