"""The last moment says what the report says, and keeps what only the run knows."""

from __future__ import annotations

from typing import Any

from analyzer.report.live_changes import Changes, answers_of
from analyzer.report.live_final import at_the_end
from analyzer.report.terminal_style import dominant
from tests.document_example import example_document
from tests.live_example import START_NS, channel, finding, moment


def test_channels_and_findings_are_those_of_the_report() -> None:
    document: Any = example_document(90)
    before = moment(channel(open=5, octets_per_s=7.0), finding("PW102", first_seen_ns=START_NS + 1))
    after = at_the_end(before, document)
    assert [c.id for c in after.view.channels] == [row["id"] for row in document["channels"]]
    for made, row in zip(after.view.channels, document["channels"], strict=True):
        assert (made.verdict, made.connections, made.octets) == (row["verdict"], row["connections"], row["octets"])
        assert answers_of(made) == {question: dominant(row, question) for question in answers_of(made)}
    assert [f.identity for f in after.view.findings] == [
        row["id"] if row["suppression"] is None else f"{row['id']}/{row['suppression']['source']}"
        for row in document["findings"]
    ]
    kept = next(c for c in after.view.channels if c.id == "apiserver-to-kubelet")
    assert (kept.open, kept.octets_per_s) == (5, 7.0)
    known = next(f for f in after.view.findings if f.identity == "PW102/apiserver-to-kubelet")
    assert known.first_seen_ns == START_NS + 1
    assert all(f.first_seen_ns == before.view.time_ns for f in after.view.findings if f is not known)
    assert (after.view.frames, after.health) == (before.view.frames, before.health)


def test_what_the_screen_showed_last_and_the_report_agree_without_a_change() -> None:
    document: Any = example_document(90)
    changes, last = Changes(), at_the_end(moment(), document)
    assert len(changes.since(last.view)) == len(document["channels"]) + len(document["findings"])
    assert changes.since(at_the_end(last, document).view) == []
