"""Node by node: every connection at a node is counted at it, and what a finding concerns is found there."""

from __future__ import annotations

from typing import Any

from analyzer.report.answers import by_severity
from analyzer.report.nodes_view import nodes
from tests.document_example import example_document


def test_nodes_come_in_the_order_people_count_and_hold_their_connections() -> None:
    document = example_document(900, 12)
    found = nodes(document)
    assert [node.name for node in found] == [f"node-{i + 1}" for i in range(12)]
    data = document["connections"]["data"]
    for node in found:
        ends = [
            row
            for row, leg in enumerate(data["leg_of"])
            if leg < 0 and node.name in (data["client_name"][row], data["server_name"][row])
        ]
        assert node.connections == len(ends)
        assert node.octets == sum(data["octets"][row] for row in ends)
        assert node.cleartext == sum(data["encryption"][row] == "cleartext" for row in ends)
        assert node.kubelet == {
            ("unverified", "inferred"): sum(data["channel"][r] == "apiserver-to-kubelet" for r in ends)
        }
        assert sum(node.upward.values()) == sum(data["channel"][r] == "node-to-apiserver" for r in ends)


def test_findings_stand_at_the_nodes_they_concern() -> None:
    document: Any = example_document(900, 12)
    position = next(i for i, f in enumerate(by_severity(document)) if f["channel"] == "apiserver-to-kubelet")
    finding = by_severity(document)[position]
    names = document["connections"]["data"]["server_name"]
    finding["connections"] = [row for row in finding["connections"] if names[row] == "node-5"]
    assert [node.name for node in nodes(document) if position in node.findings] == ["node-5"]


def test_no_nodes() -> None:
    assert nodes(example_document(0)) == []
