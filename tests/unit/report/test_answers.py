"""The five questions: what each answer says, where it leads, and that no answer is better than the document."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from analyzer.report.answers import (
    Answer,
    answers,
    by_severity,
    capture_end,
    days_left,
    headline,
    named,
    to_change,
    verification_of,
)
from tests.document_example import example_document


def asked(document: Any, key: str) -> Answer:
    return next(answer for answer in answers(document) if answer.key == key)


def test_cleartext_is_counted_and_named_core_channels_first() -> None:
    document = example_document(90)
    answer = asked(document, "cleartext")
    clear = document["summary"]["cleartext"]
    assert answer.answer.startswith(f"Yes: {clear} of {document['summary']['connections']} connections, on ")
    assert answer.tone == "risk"
    assert answer.particulars[0].startswith("API server proxy to pods")
    assert "Cluster DNS: 10 of 10" in answer.particulars


@pytest.mark.parametrize(
    ("counts", "tone", "said"),
    [
        ((0, 12, 0), "good", "No: all 12 connections are encrypted."),
        ((0, 10, 2), "open", "None was seen, but 2 of 12 connections cannot be told."),
        ((0, 0, 0), "open", "No connection was captured."),
    ],
)
def test_no_cleartext_is_said_only_of_what_is_known(counts: tuple[int, int, int], tone: str, said: str) -> None:
    document: Any = example_document(12)
    clear, encrypted, unknown = counts
    document["summary"] |= {
        "connections": sum(counts), "cleartext": clear, "encrypted": encrypted, "undecidable": unknown
    }  # fmt: skip
    for channel in document["channels"]:
        channel["encryption"] = {"encrypted": 1, "cleartext": 0, "undecidable": 0}
    answer = asked(document, "cleartext")
    assert (answer.tone, answer.answer) == (tone, said)


def test_kubelets_are_named_in_the_order_people_count() -> None:
    document: Any = example_document(900, 12)
    answer = asked(document, "kubelets")
    assert answer.answer == "12 of 12: node-1, node-2, node-3, node-4 and 8 more (inferred)."
    data = document["connections"]["data"]
    for row, name in enumerate(data["server_name"]):
        if data["channel"][row] == "apiserver-to-kubelet" and name != "node-7":
            data["server_verification"][row] = "verified" if name != "node-9" else "undecidable"
    answer = asked(document, "kubelets")
    assert answer.answer == "1 of 12: node-7 (inferred)."
    assert "Open: node-9" in answer.particulars
    assert answer.tone == "risk"


@pytest.mark.parametrize(("value", "tone"), [("verified", "good"), ("undecidable", "open")])
def test_kubelets_that_are_not_unverified(value: str, tone: str) -> None:
    document: Any = example_document(90)
    data = document["connections"]["data"]
    data["server_verification"] = [value] * 90
    answer = asked(document, "kubelets")
    assert answer.tone == tone
    assert "node-1" in answer.answer
    data["channel"] = ["dns"] * 90
    assert asked(document, "kubelets").answer == "The API server dialled no kubelet in this capture."


def test_one_unverified_dial_is_enough_and_refusing_is_checking() -> None:
    assert verification_of(Counter({("verified", "declared"): 9, ("unverified", "inferred"): 1})) == (
        "unverified",
        "inferred",
    )
    assert verification_of(Counter({("refused", "observed"): 1, ("verified", "inferred"): 3})) == (
        "refused",
        "observed",
    )
    assert verification_of(Counter()) == ("undecidable", "none")


def _certificates(document: Any, *ends: str) -> None:
    one = document["certificates"][0]
    document["certificates"] = [
        one | {"subject": f"CN=c{i}", "not_after": end, "sha256": f"{i:064}"} for i, end in enumerate(ends)
    ]


def test_the_next_certificate_counts_from_the_capture_and_expired_ones_are_said() -> None:
    document: Any = example_document(12)
    end = capture_end(document)
    assert end is not None
    _certificates(document, "2027-11-23T10:00:00Z", "2026-12-01T10:00:00Z", "2026-11-01T00:00:00Z")
    answer = asked(document, "certificate")
    assert answer.answer == "CN=c1, in 7 days (2026-12-01)."
    assert answer.tone == "risk"
    assert answer.particulars[0] == "Expired already when captured: CN=c2"
    assert "Then CN=c0, in 364 days" in answer.particulars
    _certificates(document, "2026-12-01T10:00:00Z")
    assert asked(document, "certificate").tone == "open"
    _certificates(document, "2036-12-01T10:00:00Z")
    assert asked(document, "certificate").tone == "good"
    _certificates(document, "2020-12-01T10:00:00Z")
    assert asked(document, "certificate").answer == "All that were readable had expired."
    assert days_left(document["certificates"][0], end) == -2184
    document["certificates"] = []
    assert asked(document, "certificate").answer == "None was readable in this capture."


def test_what_to_change_first_leaves_out_the_accepted_and_what_is_about_the_capture() -> None:
    document: Any = example_document(90)
    assert asked(document, "first").answer == by_severity(document)[0]["remediation"]
    accepted = next(f["suppression"] for f in document["findings"] if f["suppression"])
    for finding in document["findings"]:
        finding["suppression"] = accepted
    document["summary"]["suppressed"] = len(document["findings"])
    assert to_change(document) == []
    assert asked(document, "first").answer == "Nothing that nobody accepted."
    for finding in document["findings"]:
        finding |= {"suppression": None, "severity": "info"}
    document["summary"]["suppressed"] = 0
    assert asked(document, "first").tone == "open"
    document["findings"] = []
    assert asked(document, "first") == Answer(
        "first", "What do I change first?", "Nothing: no rule found a violation.", "good", (), "findings", "Findings"
    )


def test_what_is_open_is_listed_once() -> None:
    document: Any = example_document(12)
    document["summary"]["not_judged"] = ["one", "two"]
    document["quality"]["notes"] = ["two"]
    answer = asked(document, "open")
    assert answer.answer == "2 things:"
    assert answer.particulars == ("one", "two")
    document["summary"]["not_judged"] = document["quality"]["notes"] = []
    assert asked(document, "open").tone == "good"


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (("at-risk", "sound", "sound"), "1 of 3 channels between control plane and nodes is at risk."),
        (("at-risk", "at-risk"), "2 of 2 channels between control plane and nodes are at risk."),
        (("at-risk",), "The one channel seen between control plane and nodes is at risk."),
        (("sound", "sound"), "The 2 channels between control plane and nodes are sound."),
        (("sound",), "The one channel between control plane and nodes is sound."),
    ],
)
def test_the_headline(verdicts: tuple[str, ...], said: str) -> None:
    document: Any = example_document(12)
    document["channels"] = [document["channels"][0] | {"verdict": verdict, "core": True} for verdict in verdicts]
    assert headline(document) == said


def test_undecidable_is_not_sound_in_the_headline() -> None:
    document: Any = example_document(12)
    document["channels"] = [document["channels"][0] | {"verdict": v, "core": True} for v in ("undecidable", "sound")]
    assert headline(document).endswith("1 of 2 cannot be decided from this capture.")
    document["channels"] = []
    assert headline(document) == document["summary"]["answer"]


def test_lists_in_sentences() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named(list("abcde")) == "a, b, c, d, e"
    assert named(list("abcdefg")) == "a, b, c, d and 3 more"
