"""Suppressions narrow what counts, and change nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from typing import Any

import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.report.document import build_document
from analyzer.rules import RULES
from analyzer.rules.suppression_file import read_suppressions
from analyzer.rules.suppressions import endpoint
from analyzer.user_files import load_cluster
from tests.conftest import LAB

DAY = date(2026, 12, 1)
KUBELETS = "apiserver-to-kubelet"


@cache
def audited(entry: str = "", day: date = DAY) -> dict[str, Any]:
    """The recording with a system:masters certificate at two kubelets, node1 and node2, under one suppression."""
    text = f"suppressions: [{{reason: known, author: jane, expires: 2026-12-31, {entry}}}]" if entry else ""
    context = replace(
        load_cluster((str(LAB / "clusters" / "10-tls12"),)),
        suppressions=read_suppressions(text.encode(), "accepted.yaml", [rule.code for rule in RULES], day),
    )
    with open_capture(str(LAB / "10-tls12.pcap")) as reader:
        return build_document(run(reader, context), "medium")


def parts(document: dict[str, Any], code: str) -> dict[bool, list[dict[str, Any]]]:
    """Findings of a code at kubelets: those suppressed, and those not."""
    found = [f for f in document["findings"] if f["code"] == code and f["channel"] in (KUBELETS, "node-to-apiserver")]
    return {state: [f for f in found if (f["suppression"] is not None) == state] for state in (True, False)}


def test_a_suppressed_finding_is_shown_and_not_counted() -> None:
    plain, document = audited(), audited(f"code: PW304, channel: {KUBELETS}")
    [accepted] = parts(document, "PW304")[True]

    assert parts(document, "PW304")[False] == []
    assert accepted["suppression"]["reason"] == "known"
    assert document["summary"]["suppressed"] == 1
    assert document["summary"]["findings"]["medium"] == plain["summary"]["findings"]["medium"] - 1
    assert document["suppressions"]["entries"][0]["status"] == "applied"
    [before] = parts(plain, "PW304")[False]
    assert accepted | {"suppression": None} == before


@pytest.mark.parametrize(
    ("scope", "hosts"),
    [
        ("server: node2", {"10.0.0.12 (node2)"}),
        ("server: 10.0.0.12", {"10.0.0.12 (node2)"}),
        ('server: "10.0.0.12/32:10250"', {"10.0.0.12 (node2)"}),
        ("server: 'node?'", {"10.0.0.11 (node1)", "10.0.0.12 (node2)"}),
        (f"channel: {KUBELETS}", {"10.0.0.11 (node1)", "10.0.0.12 (node2)"}),
        ("channel: user-to-kubelet", set()),
        ('server: "10.0.0.12:443"', set()),
        ("server: node1, client: 192.0.2.0/24", set()),
    ],
)
def test_a_scope_splits_the_finding(scope: str, hosts: set[str]) -> None:
    document = audited(f"code: PW304, {scope}")
    split, [before] = parts(document, "PW304"), parts(audited(), "PW304")[False]

    assert {host for f in split[True] for host in f["hosts"]} == hosts
    assert {host for f in split[False] for host in f["hosts"]} == set(before["hosts"]) - hosts
    everything = [f for both in split.values() for f in both]
    assert sorted(c for f in everything for c in f["connections"]) == before["connections"]
    assert {frame for f in everything for frame in f["frames"]} >= set(before["frames"])
    assert len({f["fingerprint"] for f in everything}) == len(everything)
    assert document["suppressions"]["entries"][0]["status"] == ("applied" if hosts else "unused")


def test_an_expired_entry_counts_no_more_and_is_said() -> None:
    document = audited("code: PW304", date(2027, 1, 1))

    assert document["suppressions"]["entries"][0]["status"] == "expired"
    assert document["findings"] == audited()["findings"]
    assert document["summary"]["suppressed"] == 0


def test_no_verdict_changes() -> None:
    """Undecidable stays undecidable: what a rule could not judge is not made good by accepting that."""
    plain, document = audited(), audited("code: PW901")

    assert parts(document, "PW901")[True]
    assert document["channels"] == plain["channels"]
    assert document["connections"] == plain["connections"]
    assert document["summary"]["not_judged"] == plain["summary"]["not_judged"]
    assert document["summary"]["channels"] == plain["summary"]["channels"]
    assert document["rules"] == plain["rules"]


@pytest.mark.parametrize(
    ("text", "address", "port", "covered"),
    [
        ("fd00::11", "fd00::11", 10250, True),
        ("[fd00::11]:10250", "fd00::11", 10250, True),
        ("[fd00::11]:10250", "fd00::11", 443, False),
        ("fd00::/64", "fd00::11", 1, True),
        ("fd00::/64", "10.0.0.1", 1, False),
        ("10.0.0.1:80", "10.0.0.1", 80, True),
    ],
)
def test_addresses_of_both_families(text: str, address: str, port: int, covered: bool) -> None:
    assert endpoint(text).covers(address, "", port) is covered
