"""What counts as a change from one moment to the next."""

from __future__ import annotations

from analyzer.report.live_changes import Changes, ChannelChange, FindingChange, answers_of
from tests.live_example import channel, finding, view


def test_everything_is_new_once() -> None:
    changes, first = Changes(), view(channel(), finding())
    assert changes.since(first) == [ChannelChange(channel(), None), FindingChange("new", finding())]
    assert changes.since(first) == []


def test_counts_are_no_change() -> None:
    changes = Changes()
    changes.since(view(channel(), finding()))
    assert changes.since(view(channel(connections=9, octets=1), finding(connections=9, frames=(1,)))) == []


def test_a_verdict_an_answer_and_a_grade_are() -> None:
    changes = Changes()
    changes.since(view(channel(verdict="undecidable")))
    assert changes.since(view(channel())) == [ChannelChange(channel(), "undecidable")]
    clear = channel(answers={**channel().answers, "encryption": {"encrypted": 1, "cleartext": 7, "undecidable": 0}})
    assert changes.since(view(clear)) == [ChannelChange(clear, "at-risk")]
    graded = {name: dict(values) for name, values in clear.grades.items()}
    graded["encryption"] = {"observed": 0, "inferred": 8, "declared": 0, "default": 0, "none": 0}
    known = channel(answers=clear.answers, grades=graded)
    assert changes.since(view(known)) == [ChannelChange(known, "at-risk")]
    assert answers_of(known)["encryption"] == ("cleartext", "inferred", 7, 8)


def test_findings_change_go_and_come_back() -> None:
    changes = Changes()
    changes.since(view(finding()))
    observed = finding(grade="observed")
    assert changes.since(view(observed)) == [FindingChange("changed", observed)]
    assert changes.since(view()) == [FindingChange("gone", observed)]
    assert changes.since(view(observed)) == [FindingChange("new", observed)]
