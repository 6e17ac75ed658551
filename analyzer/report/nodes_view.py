"""The audit node by node: what reaches each node, what leaves it, and what is wrong there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from analyzer.report.answers import TO_KUBELET, by_severity
from analyzer.report.map_layout import place_of
from analyzer.report.schema_document import Document
from analyzer.report.text import natural

MAX_NODES: Final = 500
"""Nodes in the page's table; keeps it below 2 MB."""
_TO_APISERVER: Final = "node-to-apiserver"


@dataclass(slots=True)
class Node:
    """One node, over its connections as client and as server.

    ``kubelet`` counts how the API server's connections to its kubelet were answered, ``callers`` those of everyone
    else, ``upward`` those the node makes to the API server: by (verification, grade). ``findings`` are positions in
    the list of findings by severity.
    """

    name: str
    addresses: dict[str, None] = field(default_factory=dict)
    kubelet: Counter[tuple[str, str]] = field(default_factory=Counter)
    callers: Counter[tuple[str, str]] = field(default_factory=Counter)
    upward: Counter[tuple[str, str]] = field(default_factory=Counter)
    cleartext: int = 0
    connections: int = 0
    octets: int = 0
    findings: dict[int, None] = field(default_factory=dict)


def nodes(document: Document) -> list[Node]:
    """Return the nodes of the capture by name, as the map places them."""
    channels = {channel["id"]: channel for channel in document["channels"]}
    data = document["connections"]["data"]
    of_row: dict[int, list[int]] = {}
    for position, finding in enumerate(by_severity(document)):
        for row in finding["connections"]:
            of_row.setdefault(row, []).append(position)
    found: dict[str, Node] = {}
    ends = [tuple(data[f"{side}_{name}"] for name in ("role", "name", "ip")) for side in ("client", "server")]
    answers = [data[name] for name in ("encryption", "server_verification", "server_verification_grade")]
    for row, (channel_id, leg) in enumerate(zip(data["channel"], data["leg_of"], strict=True)):
        channel = channels.get(channel_id)
        if channel is None or leg >= 0:
            continue
        encryption, verification, grade = (column[row] for column in answers)
        for side, (roles, names, addresses) in zip(("client", "server"), ends, strict=True):
            role = channel["client_role"] if side == "client" else channel["server_role"]
            host = names[row] or addresses[row]
            if not place_of(role, roles[row], host).startswith("node:"):
                continue
            node = found.get(host)
            if node is None:
                node = found[host] = Node(host)
            node.addresses[addresses[row]] = None
            node.connections += 1
            node.octets += data["octets"][row]
            node.cleartext += encryption == "cleartext"
            node.findings |= dict.fromkeys(of_row.get(row, ()))
            if side == "server" and role == "kubelet" and encryption != "cleartext":
                (node.kubelet if channel_id == TO_KUBELET else node.callers)[verification, grade] += 1
            elif side == "client" and channel_id == _TO_APISERVER:
                node.upward[verification, grade] += 1
    return sorted(found.values(), key=lambda node: natural(node.name))
