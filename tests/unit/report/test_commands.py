"""Commands a reader copies: they name the right file and frames, and a shell takes captured names for text."""

from __future__ import annotations

import shlex
from typing import Any

from analyzer.report.commands import capture_arguments, evidence_command, next_commands, tshark_command
from tests.document_example import HOSTILE, example_document


def test_the_frames_are_those_of_the_capture_that_holds_them() -> None:
    document: Any = example_document(90)
    document["captures"] = [document["captures"][0] | {"name": name} for name in ("a.pcap", "it's b.pcap")]
    finding = document["findings"][0]
    finding["evidence"] = [{"capture": 1, "frames": [4, 7]}]
    assert shlex.split(tshark_command(document, finding)) == [
        "tshark", "-r", "it's b.pcap", "-Y", "frame.number in {4, 7}"
    ]  # fmt: skip
    assert shlex.split(evidence_command(document, finding)) == [
        "planewire", "evidence", "it's b.pcap", finding["id"], "--cluster", "FACTS", "-o", f"{finding['code']}.pcapng"
    ]  # fmt: skip


def test_without_frames_the_finding_own_filter_is_given() -> None:
    document: Any = example_document(90)
    finding = document["findings"][0]
    finding["evidence"] = []
    assert shlex.split(tshark_command(document, finding))[-1] == finding["filter"]


def test_captured_names_are_one_word_each() -> None:
    document: Any = example_document(90)
    for name in HOSTILE:
        document["captures"][0]["name"] = name
        for command, _ in next_commands(document):
            assert "\n" not in command
            assert "\x1b" not in command
            assert shlex.split(command)[0] == "planewire"


def test_standard_input_and_many_files_are_words_in_capitals() -> None:
    document: Any = example_document(9)
    one = document["captures"][0]
    document["captures"] = [one | {"name": "-"}]
    assert capture_arguments(document) == "CAPTURE"
    document["captures"] = [one | {"name": "eth0", "format": "live"}]
    assert capture_arguments(document) == "CAPTURE"
    assert " CAPTURE " in evidence_command(document, document["findings"][0])
    document["captures"] = [one | {"name": f"{i}.pcap"} for i in range(9)]
    assert capture_arguments(document) == "CAPTURE..."
    document["captures"] = [one | {"name": f"{i}.pcap"} for i in range(2)]
    assert capture_arguments(document) == "0.pcap 1.pcap"


def test_there_are_three_whatever_was_found_and_given() -> None:
    document: Any = example_document(90)
    for html in (False, True):
        for given in (False, True):
            document["cluster"]["given"] = given
            commands = [command for command, _ in next_commands(document, html=html)]
            assert len(commands) == len(set(commands)) == 3
            assert any("--html" in command for command in commands) == (not html)
            assert any(command.startswith("planewire explain") for command in commands)
    document["findings"] = []
    assert len(next_commands(document, html=True)) == 3
