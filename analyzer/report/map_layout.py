"""Where things stand in the hub-and-spoke picture: control plane in the middle, nodes left and right of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from analyzer.report.answers import VERDICT_ORDER
from analyzer.report.schema_document import ChannelEntry, Document
from analyzer.report.text import natural

MAX_NODES: Final = 6
"""Nodes drawn one by one; beyond, nodes with the same channels and verdicts share one card."""
MAX_CARDS: Final = 10
"""Cards for nodes at most; the last holds whatever nodes are left."""
_MAX_NOTE: Final = 26
"""Characters of a second line that fit into a card."""

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
    verdict: str


# ------------------------------------------------------------------------------------- who talks to whom


def spokes_of(document: Document) -> tuple[list[Spoke], dict[str, set[str]]]:
    """Lines between places, each with the verdict of its own connections, and the addresses each place stands for."""
    rows = {channel["id"]: row for row, channel in enumerate(document["channels"])}
    data = document["connections"]["data"]
    accused = _accused(document)
    totals: dict[tuple[int, str, str], _Tally] = defaultdict(_Tally)
    hosts: dict[str, set[str]] = defaultdict(set)
    names = ("channel", "client_role", "client_ip", "client_name", "server_role", "server_ip", "server_name")
    facts = ("leg_of", "octets", "protocol", "encryption", "server_verification")
    for number, (
        (channel_id, client_role, client_ip, client_name, server_role, server_ip, server_name),
        (leg, octets, protocol, encryption, verification),
    ) in enumerate(
        zip(zip(*(data[n] for n in names), strict=True), zip(*(data[n] for n in facts), strict=True), strict=True)
    ):
        row = rows.get(channel_id)
        if row is None or leg >= 0:
            continue
        channel = document["channels"][row]
        client = place_of(channel["client_role"], client_role, client_name or client_ip)
        server = place_of(channel["server_role"], server_role, server_name or server_ip)
        hosts[client].add(client_ip)
        hosts[server].add(server_ip)
        total = totals[row, client, server]
        total.octets += octets
        total.connections += 1
        total.judged += protocol != "no data"
        total.encrypted += encryption == "encrypted"
        total.cleartext += encryption == "cleartext"
        total.checked += verification in ("verified", "refused")
        total.accused += (channel_id, number) in accused
    spokes = [
        Spoke(*key, total.octets, total.connections, _verdict(document["channels"][key[0]], total))
        for key, total in sorted(totals.items())
    ]
    # Where none of a channel's lines bears its verdict, all do: the picture never looks better than the list.
    borne = {(spoke.channel, spoke.verdict) for spoke in spokes}
    own = [channel["verdict"] for channel in document["channels"]]
    return [
        spoke if (spoke.channel, own[spoke.channel]) in borne else replace(spoke, verdict=own[spoke.channel])
        for spoke in spokes
    ], hosts


@dataclass(slots=True)
class _Tally:
    """What the connections of one line say."""

    octets: int = 0
    connections: int = 0
    judged: int = 0
    encrypted: int = 0
    cleartext: int = 0
    checked: int = 0
    accused: int = 0


def _accused(document: Document) -> set[tuple[str, int]]:
    """Channels and connections that a finding of weight concerns; a second leg stands for its connection."""
    legs = document["connections"]["data"]["leg_of"]
    return {
        (finding["channel"], row if legs[row] < 0 else legs[row])
        for finding in document["findings"]
        if finding["severity"] in ("critical", "high", "medium")
        for row in finding["connections"]
    }


def _verdict(channel: ChannelEntry, total: _Tally) -> str:
    """Verdict of one line, by the rules that judge the channel; undecidable is never sound."""
    if channel["verdict"] in ("informational", "sound"):
        return channel["verdict"]
    if channel["verdict"] == "at-risk" and (total.accused or (channel["core"] and total.cleartext)):
        return "at-risk"
    if total.judged == 0:
        return "undecidable"
    if not channel["core"]:
        return "informational"
    if total.encrypted < total.judged or (channel["expects"] != "encrypted" and total.checked < total.judged):
        return "undecidable"
    return "sound"


def place_of(channel_role: str, roles: str, host: str) -> str:
    """Key of the place one end belongs to: the channel's role decides, else the roles its address has."""
    others = roles.split(", ")
    if channel_role == "node" and _HUB in others:
        return _HUB  # the control plane's host as a node among nodes: an overlay's end, say
    for role in (channel_role, *others):
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


def grouped_nodes(spokes: Sequence[Spoke]) -> tuple[list[Spoke], dict[str, list[str]]]:
    """Nodes one by one where they are few; else one place for all nodes that have the same channels and verdicts.

    Returns
    -------
    list of Spoke
        Between the places that are drawn.
    dict
        Key of each place for nodes -> the nodes it stands for.
    """
    parts: dict[str, set[tuple[int, bool, str]]] = defaultdict(set)
    for spoke in spokes:
        for end, is_client in ((spoke.client, True), (spoke.server, False)):
            if end.startswith("node:"):
                parts[end].add((spoke.channel, is_client, spoke.verdict))
    if len(parts) <= MAX_NODES:
        return list(spokes), {node: [node] for node in parts}
    alike: dict[frozenset[tuple[int, bool, str]], list[str]] = defaultdict(list)
    for node, channels in sorted(parts.items()):
        alike[frozenset(channels)].append(node)
    # Nodes at risk keep a card of their own longest: they are what one looks for.
    ranked = sorted(alike.items(), key=lambda item: (-_risks(item[0]), -len(item[1]), item[1][0]))
    head = [nodes for _, nodes in ranked[: MAX_CARDS - 1]]
    rest = [node for _, nodes in ranked[MAX_CARDS - 1 :] for node in nodes]
    groups = {
        f"node:group {i + 1}": sorted(nodes, key=natural) for i, nodes in enumerate([*head, rest] if rest else head)
    }
    owner = {node: group for group, nodes in groups.items() for node in nodes}
    merged: dict[tuple[int, str, str], Spoke] = {}
    for spoke in spokes:
        key = spoke.channel, owner.get(spoke.client, spoke.client), owner.get(spoke.server, spoke.server)
        before = merged.get(key, Spoke(*key, 0, 0, spoke.verdict))
        worse = min(before.verdict, spoke.verdict, key=VERDICT_ORDER.index)
        merged[key] = Spoke(*key, before.octets + spoke.octets, before.connections + spoke.connections, worse)
    return [spoke for _, spoke in sorted(merged.items())], groups


def _risks(channels: frozenset[tuple[int, bool, str]]) -> int:
    return sum(verdict == "at-risk" for _, _, verdict in channels)


# --------------------------------------------------------------------------------------------- layout


def places_of(
    spokes: Sequence[Spoke], groups: Mapping[str, Sequence[str]], hosts: Mapping[str, set[str]]
) -> tuple[dict[str, Place], float]:
    """Boxes by key, and the height of the picture: control plane in the middle, nodes left and right."""
    used = {end for spoke in spokes for end in (spoke.client, spoke.server)}
    plane = sorted(end for end in used if end.startswith("plane:"))
    nodes = sorted((end for end in used if end.startswith("node:")), key=natural)
    beside = math.ceil(len(nodes) / 2)
    left, right = nodes[:beside], nodes[beside:]
    side_stop = SIDE_TOP + (beside - 1) * 84 if beside > 1 else SIDE_TOP + 120
    hub_y = max(215.0 if plane else 150.0, (SIDE_TOP + side_stop) / 2)

    places: dict[str, Place] = {_HUB: Place(_HUB, "hub", _HUB, "the hub", CENTRE, hub_y, 190, 74)}
    width = 164.0
    for i, key in enumerate(plane):
        x = CENTRE + (i - (len(plane) - 1) / 2) * (width + 14)
        places[key] = Place(key, "plane", key.removeprefix("plane:"), "", x, hub_y - 141, width, 36)
    for column, x in zip((left, right), SIDES, strict=True):
        gap = (side_stop - SIDE_TOP) / (len(column) - 1) if len(column) > 1 else 0.0
        top = SIDE_TOP if len(column) > 1 else (SIDE_TOP + side_stop) / 2
        for i, key in enumerate(column):
            places[key] = _node(key, groups, x, top + i * gap)
    if _PODS in used:
        note = count_text(len(hosts[_PODS]), "address", "addresses")
        alone = len(nodes) <= 1
        x, y = (SIDES[1], (SIDE_TOP + side_stop) / 2) if alone else (CENTRE, hub_y + 150)
        places[_PODS] = Place(_PODS, "pod", "pods and services", note, x, y, *CARD)
    for key, title, x in ((_OUTSIDE, "users", SIDES[0]), (_OTHER, "other hosts", SIDES[1])):
        if key in used:
            note = count_text(len(hosts[key]), "address", "addresses")
            places[key] = Place(key, "outside", title, note, x, 52, *CARD)
    lowest = max(place.y + place.height / 2 for place in places.values())
    return places, max(lowest, hub_y + 60) + 24


def _node(key: str, groups: Mapping[str, Sequence[str]], x: float, y: float) -> Place:
    names = [member.removeprefix("node:") for member in groups.get(key, (key,))]
    size = len(names)
    title = names[0] if size == 1 else f"{size:,} nodes"
    subtitle = "node" if size == 1 else ", ".join(names) if len(", ".join(names)) <= _MAX_NOTE else "all alike"
    return Place(key, "node" if size == 1 else "nodes", title, subtitle, x, y, *CARD)


def count_text(number: int, one: str, many: str) -> str:
    """Return a count with its noun: ``1 address``, ``2,000 addresses``."""
    return f"{number:,} {one if number == 1 else many}"
