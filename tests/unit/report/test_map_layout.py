"""Which box an end belongs to, and what stays true when nodes are grouped."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from analyzer.report.map_layout import MAX_NODES, count_text, grouped_nodes, places_of, spokes_of
from tests.document_example import example_document


@pytest.mark.parametrize(
    ("channel_role", "roles", "place"),
    [
        ("kubelet", "node, kubelet", "node:web"),
        ("kube-apiserver", "node", "kube-apiserver"),
        ("node", "kube-apiserver, control plane", "kube-apiserver"),
        ("kubelet", "kube-apiserver, kubelet", "node:web"),
        ("etcd", "control plane, etcd", "plane:etcd"),
        ("any", "pod", "pods"),
        ("any", "node", "node:web"),
        ("any", "control plane", "plane:control plane"),
        ("cluster DNS", "unknown", "pods"),
        ("user", "unknown", "outside"),
        ("any", "unknown", "other"),
        ("component", "loopback", "other"),
    ],
)
def test_the_channel_decides_where_an_end_stands_else_its_address(channel_role: str, roles: str, place: str) -> None:
    document: Any = example_document(1)
    document["channels"][0]["server_role"] = channel_role
    document["connections"]["data"] |= {"server_role": [roles], "server_name": ["web"]}
    ((spoke,), hosts) = spokes_of(document)
    assert spoke.server == place
    assert hosts[place] == {"10.1.0.1"} if place != "kube-apiserver" else {"10.1.0.1"} <= hosts[place]


@pytest.mark.parametrize("nodes", [MAX_NODES, MAX_NODES + 1, 100])
def test_grouping_keeps_connections_octets_and_nodes(nodes: int) -> None:
    spokes, _ = spokes_of(example_document(2000, nodes))
    grouped, sizes = grouped_nodes(spokes)
    for field in ("connections", "octets"):
        before, after = (Counter[int](), Counter[int]())
        for total, lines in ((before, spokes), (after, grouped)):
            for line in lines:
                total[line.channel] += getattr(line, field)
        assert before == after
    assert sum(map(len, sizes.values())) == nodes
    assert len(sizes) <= MAX_NODES


def test_nodes_that_differ_have_cards_of_their_own() -> None:
    document: Any = example_document(900, 100)
    channels = document["connections"]["data"]["channel"]
    names = document["connections"]["data"]["server_name"]
    rows = [row for row in range(900) if names[row] == "node-7" and channels[row] == "kubelet-readonly"]
    for row in rows:
        document["connections"]["data"]["leg_of"][row] = 0
    _, sizes = grouped_nodes(spokes_of(document)[0])
    assert sorted(map(len, sizes.values())) == [1, 99]


def test_nodes_stand_in_the_order_people_count() -> None:
    spokes, hosts = spokes_of(example_document(400, 10))
    places, _ = places_of(spokes, {key: [key] for key in hosts}, hosts)
    nodes = [place.title for place in places.values() if place.kind == "node"]
    assert nodes.index("node-2") < nodes.index("node-10")


def test_counts_have_their_noun() -> None:
    assert count_text(1, "address", "addresses") == "1 address"
    assert count_text(2000, "address", "addresses") == "2,000 addresses"
