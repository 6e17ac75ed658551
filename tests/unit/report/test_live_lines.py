"""Lines of a live session: each matches the schema, stays on one line, and acts on no terminal."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from analyzer.report.live_changes import ChannelChange, FindingChange
from analyzer.report.live_lines import Drops, as_json, as_text, change_line, note_line, start_line, summary_line
from analyzer.report.live_schema import LiveLine, json_schema
from tests.document_example import HOSTILE
from tests.live_example import START_NS, channel, finding, moment

NOW = moment(channel(), finding(), finding("PW901", severity="info", suppressed="known"))


def every_line(text: str = "plain") -> list[LiveLine]:
    hostile = finding(sentence=text, hosts=(text,), title=text, suppressed=text, filter=text)
    drops = Drops().line(NOW)
    assert drops is not None
    return [
        start_line(START_NS, NOW.health),
        change_line(START_NS, ChannelChange(channel(sentence=text, title=text), None)),
        change_line(START_NS, ChannelChange(channel(), "undecidable")),
        change_line(START_NS, FindingChange("new", hostile)),
        change_line(START_NS, FindingChange("gone", hostile)),
        note_line(START_NS, text),
        drops,
        summary_line(NOW, "interrupt", 1),
    ]


@pytest.mark.parametrize("text", ["plain", *HOSTILE])
def test_every_line_matches_the_schema_and_is_inert(text: str) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    for line in every_line(text):
        written = as_json(line)
        assert written.isascii()
        assert written.isprintable()
        validator.validate(json.loads(written))
        assert json.loads(written) == line
        assert as_text(line).isprintable()


def test_a_line_that_is_none_does_not_match() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    for line in every_line():
        for key in line:
            broken: Any = {name: value for name, value in line.items() if name != key}
            assert not validator.is_valid(broken), key


def test_what_people_read() -> None:
    texts = [as_text(line) for line in every_line("Seen")]
    assert texts[0] == "2026-11-23T10:00:00Z start: eth0, by AF_PACKET ring"
    assert texts[2] == (
        "2026-11-23T10:00:00Z channel apiserver-to-kubelet: at-risk (was undecidable): encryption encrypted observed, "
        "client cert. presented inferred, server check unverified inferred; 8 connections"
    )
    assert "finding high PW201/apiserver-to-kubelet inferred: Seen (suppressed: Seen)" in texts[3]
    assert "finding gone high PW201" in texts[4]
    assert texts[-2].endswith("drops: 3 more, 3 since the start")
    assert texts[-1].endswith("end (interrupt): 1,200 packets, 3 dropped, 8 connections, 1 channel; findings: 1 high")


def test_drops_are_told_at_once_and_then_every_ten_seconds() -> None:
    drops = Drops()
    told = []
    for second, dropped in enumerate([0, 5, 6, 9, 9, 9, 9, 9, 9, 9, 9, 12, 12, 12]):
        line = drops.line(moment(health={"running_s": float(second), "dropped": dropped}))
        told += [(second, line["more"], line["dropped"])] if line else []
    assert told == [(1, 5, 5), (11, 7, 12)]
