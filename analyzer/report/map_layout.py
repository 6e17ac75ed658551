"""Where things stand in the hub-and-spoke picture: control plane in the middle, nodes left, below and right of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from analyzer.report.schema_document import Document

MAX_NODES: Final = 10
"""Nodes drawn one by one; beyond, nodes that take part in the same channels share one card."""

_HUB: Final = "kube-apiserver"
_PODS: Final = "pods"
_OUTSIDE: Final = "outside"
_OTHER: Final = "other"
_PLANE_ROLES: Final = frozenset(
    {
        "etcd",
        "kube-controller-manager",
        "kube-scheduler",
        "cloud-controller-manager",
        "konnectivity-server",
        "control plane",
    }
)
_NODE_ROLES: Final = frozenset({"node", "kubelet", "kube-proxy", "konnectivity-agent"})
_POD_ROLES: Final = frozenset({"pod", "service", "webhook", "dns", "cluster DNS"})
_USER_ROLES: Final = frozenset({"user", "kubectl proxy"})

WIDTH: Final = 1120
CARD: Final = (150, 48)
SIDES: Final = (95.0, WIDTH - 95.0)
CENTRE: Final = WIDTH / 2
SIDE_TOP: Final = 150.0


@dataclass(frozen=True, slots=True)
class Place:
    """A box of the picture; `x` and `y` are its centre, in SVG user units."""

    key: str
    kind: str
    title: str
    subtitle: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Spoke:
    """One line: a channel between two places."""

    channel: int
    client: str
    server: str
    octets: int
    connections: int


# ------------------------------------------------------------------------------------- who talks to whom


def spokes_of(document: Document) -> tuple[list[Spoke], dict[str, set[str]]]:
    """Lines between places, and the addresses each place stands for."""
    rows = {channel["id"]: row for row, channel in enumerate(document["channels"])}
    data = document["connections"]["data"]
    totals: dict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0])
    hosts: dict[str, set[str]] = defaultdict(set)
    names = ("channel", "client_role", "client_ip", "client_name", "server_role", "server_ip", "server_name")
    for channel_id, client_role, client_ip, client_name, server_role, server_ip, server_name, leg, octets in zip(
        *(data[name] for name in names), data["leg_of"], data["octets"], strict=True
    ):
        row = rows.get(channel_id)
        if row is None or leg >= 0:
            continue
        channel = document["channels"][row]
        client = _place_of(channel["client_role"], client_role, client_name or client_ip)
        server = _place_of(channel["server_role"], server_role, server_name or server_ip)
        hosts[client].add(client_ip)
        hosts[server].add(server_ip)
        total = totals[row, client, server]
        total[0] += octets
        total[1] += 1
    spokes = [Spoke(row, client, server, *total) for (row, client, server), total in sorted(totals.items())]
    return spokes, hosts


def _place_of(channel_role: str, roles: str, host: str) -> str:
    """Key of the place one end belongs to: the channel's role decides, else the roles its address has."""
    for role in (channel_role, *roles.split(", ")):
        if role == _HUB:
            return _HUB
        if role in _PLANE_ROLES:
            return f"plane:{role}"
        if role in _NODE_ROLES:
            return f"node:{host}"
        if role in _POD_ROLES:
            return _PODS
        if role in _USER_ROLES:
            return _OUTSIDE
    return _OTHER


def grouped_nodes(spokes: Sequence[Spoke]) -> tuple[list[Spoke], dict[str, int]]:
    """Nodes one by one where they are few; else one place for all nodes that take part in the same channels."""
    parts: dict[str, set[tuple[int, bool]]] = defaultdict(set)
    for spoke in spokes:
        for end, is_client in ((spoke.client, True), (spoke.server, False)):
            if end.startswith("node:"):
                parts[end].add((spoke.channel, is_client))
    if len(parts) <= MAX_NODES:
        return list(spokes), dict.fromkeys(parts, 1)
    groups: dict[frozenset[tuple[int, bool]], list[str]] = defaultdict(list)
    for node, channels in sorted(parts.items()):
        groups[frozenset(channels)].append(node)
    ranked = sorted(groups.values(), key=lambda nodes: (-len(nodes), nodes[0]))
    head, rest = ranked[: MAX_NODES - 1], [node for nodes in ranked[MAX_NODES - 1 :] for node in nodes]
    owner = {node: f"node:group {i + 1}" for i, nodes in enumerate([*head, rest] if rest else head) for node in nodes}
    totals: dict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for spoke in spokes:
        total = totals[spoke.channel, owner.get(spoke.client, spoke.client), owner.get(spoke.server, spoke.server)]
        total[0] += spoke.octets
        total[1] += spoke.connections
    sizes: dict[str, int] = defaultdict(int)
    for group in owner.values():
        sizes[group] += 1
    return [Spoke(*key, *total) for key, total in sorted(totals.items())], dict(sizes)


# --------------------------------------------------------------------------------------------- layout


def places_of(
    spokes: Sequence[Spoke], groups: Mapping[str, int], hosts: Mapping[str, set[str]]
) -> tuple[dict[str, Place], float]:
    """Boxes by key, and the height of the picture: control plane on top, nodes left, below and right of the hub."""
    used = {end for spoke in spokes for end in (spoke.client, spoke.server)}
    plane = sorted(end for end in used if end.startswith("plane:"))
    nodes = sorted((end for end in used if end.startswith("node:")), key=_natural)
    # An even number below the hub leaves a lane in the middle for the lines between hub and pods.
    below = 0 if len(nodes) <= 3 else min(4, (len(nodes) - 2) // 2 * 2)
    beside = math.ceil((len(nodes) - below) / 2)
    left, bottom, right = nodes[:beside], nodes[beside : beside + below], nodes[beside + below :]
    hub_y = 215.0 if plane else 150.0
    side_stop = max(SIDE_TOP + (beside - 1) * 74, hub_y + 90)
    bottom_y = side_stop + 100

    places: dict[str, Place] = {_HUB: Place(_HUB, "hub", _HUB, "the hub", CENTRE, hub_y, 190, 74)}
    width = 164.0
    for i, key in enumerate(plane):
        x = CENTRE + (i - (len(plane) - 1) / 2) * (width + 14)
        places[key] = Place(key, "plane", key.removeprefix("plane:"), "", x, 74, width, 36)
    for column, x in zip((left, right), SIDES, strict=True):
        gap = (side_stop - SIDE_TOP) / (len(column) - 1) if len(column) > 1 else 0.0
        top = SIDE_TOP if len(column) > 1 else (SIDE_TOP + side_stop) / 2
        for i, key in enumerate(column):
            places[key] = _node(key, groups, x, top + i * gap)
    for i, key in enumerate(bottom):
        lane = i - (below - 1) / 2
        places[key] = _node(key, groups, CENTRE + lane * 184 + math.copysign(24, lane), bottom_y)
    if _PODS in used:
        note = count_text(len(hosts[_PODS]), "address", "addresses")
        alone = len(nodes) <= 1
        x, y = (SIDES[1], (SIDE_TOP + side_stop) / 2) if alone else (CENTRE, bottom_y + (96 if bottom else 0))
        places[_PODS] = Place(_PODS, "pod", "pods and services", note, x, y, *CARD)
    for key, title, x in ((_OUTSIDE, "users", SIDES[0]), (_OTHER, "other hosts", SIDES[1])):
        if key in used:
            note = count_text(len(hosts[key]), "address", "addresses")
            places[key] = Place(key, "outside", title, note, x, 52, *CARD)
    lowest = max(place.y + place.height / 2 for place in places.values())
    return places, max(lowest, hub_y + 60) + 24


def _node(key: str, groups: Mapping[str, int], x: float, y: float) -> Place:
    size = groups.get(key, 1)
    name = key.removeprefix("node:")
    title = name if size == 1 else f"{size} nodes"
    subtitle = "node" if size == 1 else "same channels"
    return Place(key, "node" if size == 1 else "nodes", title, subtitle, x, y, *CARD)


def _natural(key: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts node-2 before node-10."""
    runs: list[str] = [""]
    for character in key:
        if character.isdecimal() != runs[-1][-1:].isdecimal():
            runs.append("")
        runs[-1] += character
    return tuple((0, int(run), "") if run.isdecimal() else (1, 0, run) for run in runs if run)


def count_text(number: int, one: str, many: str) -> str:
    """Return a count with its noun: ``1 address``, ``2,000 addresses``."""
    return f"{number:,} {one if number == 1 else many}"
