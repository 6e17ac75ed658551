"""The hub-and-spoke picture: control plane in the middle, nodes around it, one line a channel, drawn as SVG text.

Verdicts are told by dash pattern, number and title as well as by colour; colours are classes, so that the page decides
them for light, dark and print. Every line is a link to its channel's anchor.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from analyzer.report.schema_document import ChannelEntry, Document, as_document
from analyzer.report.text import visible

MAX_NODES: Final = 10
"""Nodes drawn one by one; beyond, nodes that take part in the same channels share one card."""
_MAX_BADGED_NODES: Final = 6
_MAX_LABEL: Final = 19

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

_WIDTH: Final = 1120
_CARD: Final = (150, 48)
_CENTRE: Final = _WIDTH / 2
_SIDE_TOP: Final = 150.0


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


def hub_and_spoke(document: Mapping[str, Any], order: Sequence[int]) -> str:
    """Draw the channels of a document.

    Parameters
    ----------
    document : mapping
        A report document.
    order : sequence of int
        Rows of ``document["channels"]`` in the order of their numbers: the first is number 1.

    Returns
    -------
    str
        One ``<svg>`` element; all text from the document is escaped. Empty where there is nothing to draw.
    """
    typed = as_document(document)
    spokes, hosts = _spokes(typed)
    if not spokes:
        return ""
    spokes, groups = _grouped(spokes)
    places, height = _places(spokes, groups, hosts)
    number = {row: position + 1 for position, row in enumerate(order)}
    parts = [
        f'<svg class="map" viewBox="0 0 {_WIDTH} {height:.0f}" role="group" aria-labelledby="map-title map-note">',
        '<title id="map-title">Channels between the control plane and its nodes</title>',
        '<desc id="map-note">Each line is one channel, drawn from client to server, with the number it has in the list '
        "below. Line width grows with traffic; the dash pattern tells the verdict.</desc>",
        _defs(),
        _plane(places),
    ]
    parts += _lines(spokes, places, typed["channels"], number)
    parts += [_box(place) for place in places.values()]
    parts.append("</svg>")
    return "\n".join(parts)


# ------------------------------------------------------------------------------------- who talks to whom


def _spokes(document: Document) -> tuple[list[Spoke], dict[str, set[str]]]:
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


def _grouped(spokes: Sequence[Spoke]) -> tuple[list[Spoke], dict[str, int]]:
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


def _places(
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
    side_stop = max(_SIDE_TOP + (beside - 1) * 74, hub_y + 90)
    bottom_y = side_stop + 100

    places: dict[str, Place] = {_HUB: Place(_HUB, "hub", _HUB, "the hub", _CENTRE, hub_y, 190, 74)}
    width = 164.0
    for i, key in enumerate(plane):
        x = _CENTRE + (i - (len(plane) - 1) / 2) * (width + 14)
        places[key] = Place(key, "plane", key.removeprefix("plane:"), "", x, 74, width, 36)
    for column, x in ((left, 95.0), (right, _WIDTH - 95.0)):
        gap = (side_stop - _SIDE_TOP) / (len(column) - 1) if len(column) > 1 else 0.0
        top = _SIDE_TOP if len(column) > 1 else (_SIDE_TOP + side_stop) / 2
        for i, key in enumerate(column):
            places[key] = _node(key, groups, x, top + i * gap)
    for i, key in enumerate(bottom):
        lane = i - (below - 1) / 2
        places[key] = _node(key, groups, _CENTRE + lane * 184 + math.copysign(24, lane), bottom_y)
    if _PODS in used:
        note = _count(len(hosts[_PODS]), "address", "addresses")
        alone = len(nodes) <= 1
        x, y = (_WIDTH - 95.0, (_SIDE_TOP + side_stop) / 2) if alone else (_CENTRE, bottom_y + (96 if bottom else 0))
        places[_PODS] = Place(_PODS, "pod", "pods and services", note, x, y, *_CARD)
    for key, title, x in ((_OUTSIDE, "users", 95.0), (_OTHER, "other hosts", _WIDTH - 95.0)):
        if key in used:
            note = _count(len(hosts[key]), "address", "addresses")
            places[key] = Place(key, "outside", title, note, x, 52, *_CARD)
    lowest = max(place.y + place.height / 2 for place in places.values())
    return places, max(lowest, hub_y + 60) + 24


def _node(key: str, groups: Mapping[str, int], x: float, y: float) -> Place:
    size = groups.get(key, 1)
    name = key.removeprefix("node:")
    title = name if size == 1 else f"{size} nodes"
    subtitle = "node" if size == 1 else "same channels"
    return Place(key, "node" if size == 1 else "nodes", title, subtitle, x, y, *_CARD)


def _natural(key: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts node-2 before node-10."""
    runs: list[str] = [""]
    for character in key:
        if character.isdecimal() != runs[-1][-1:].isdecimal():
            runs.append("")
        runs[-1] += character
    return tuple((0, int(run), "") if run.isdecimal() else (1, 0, run) for run in runs if run)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


# -------------------------------------------------------------------------------------------- drawing


def _defs() -> str:
    heads = "".join(
        f'<marker id="head-{verdict}" class="head {verdict}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="10" '
        f'markerHeight="10" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.8 10 5 0 9.2z"/></marker>'
        for verdict in ("at-risk", "sound", "undecidable", "informational")
    )
    return f"<defs>{heads}</defs>"


def _plane(places: Mapping[str, Place]) -> str:
    inside = [place for place in places.values() if place.kind in ("hub", "plane")]
    left = min(place.x - place.width / 2 for place in inside) - 26
    right = max(place.x + place.width / 2 for place in inside) + 26
    top = min(place.y - place.height / 2 for place in inside) - 40
    bottom = max(place.y + place.height / 2 for place in inside) + 22
    return (
        f'<rect class="plane" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" '
        f'rx="16"/><text class="zone" x="{left + 16:.1f}" y="{top + 21:.1f}">Control plane</text>'
    )


def _box(place: Place) -> str:
    x, y = place.x - place.width / 2, place.y - place.height / 2
    shadow = ""
    if place.kind == "nodes":
        shadow = "".join(
            f'<rect class="box node" x="{x + d}" y="{y - d}" width="{place.width}" height="{place.height}" rx="9"/>'
            for d in (8, 4)
        )
    title = _shortened(visible(place.title))
    middle = place.y + (-3 if place.subtitle else 5)
    text = f'<text class="name" x="{place.x:.1f}" y="{middle:.1f}">{escape(title)}</text>'
    if place.subtitle:
        text += f'<text class="note" x="{place.x:.1f}" y="{place.y + 14:.1f}">{escape(visible(place.subtitle))}</text>'
    return (
        f'<g>{shadow}<rect class="box {place.kind}" x="{x:.1f}" y="{y:.1f}" width="{place.width:.0f}" '
        f'height="{place.height:.0f}" rx="9"/>{text}<title>{escape(visible(place.title))}</title></g>'
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def _lines(
    spokes: Sequence[Spoke], places: Mapping[str, Place], channels: Sequence[ChannelEntry], number: Mapping[int, int]
) -> Iterable[str]:
    """Lines first, their badges after them, so that no line hides a number."""
    pairs: dict[tuple[str, str], list[Spoke]] = defaultdict(list)
    for spoke in sorted(spokes, key=lambda s: number[s.channel]):
        pairs[min(spoke.client, spoke.server), max(spoke.client, spoke.server)].append(spoke)
    busiest = max(spoke.octets for spoke in spokes)
    badged = _badged_places(places)
    lines, badges = [], []
    for (first, second), together in pairs.items():
        for position, spoke in enumerate(together):
            channel = channels[spoke.channel]
            shift = position - (len(together) - 1) / 2
            width = 1.2 + 2.6 * math.log1p(spoke.octets) / math.log1p(max(busiest, 1))
            if first == second:
                path, badge = _loop(places[first], position)
            else:
                path, badge = _straight(places[spoke.client], places[spoke.server], shift, first == spoke.client)
            verdict = channel["verdict"]
            label = (
                f"{channel['title']}: {verdict}, {_count(spoke.connections, 'connection', 'connections')}, "
                f"{places[spoke.client].title} to {places[spoke.server].title}"
            )
            opening = f'<a href="#channel-{escape(channel["id"])}" aria-label="{escape(visible(label))}">'
            lines.append(
                f'{opening}<path class="hit" d="{path}"/><path class="line {verdict}" d="{path}" '
                f'stroke-width="{width:.1f}" marker-end="url(#head-{verdict})"/>'
                f"<title>{escape(visible(label))}</title></a>"
            )
            if {first, second} <= badged:
                x, y = badge
                badges.append(
                    f'<g class="badge {verdict}" aria-hidden="true"><circle cx="{x:.1f}" cy="{y:.1f}" r="10"/>'
                    f'<text x="{x:.1f}" y="{y + 4:.1f}">{number[spoke.channel]}</text></g>'
                )
    return [*lines, *badges]


def _badged_places(places: Mapping[str, Place]) -> set[str]:
    """All places where nodes are few; else of the nodes only the first of each side."""
    nodes = [place for place in places.values() if place.kind in ("node", "nodes")]
    if len(nodes) <= _MAX_BADGED_NODES:
        return set(places)
    first: dict[float, str] = {}
    for place in nodes:
        first.setdefault(place.x if place.x in (95.0, _WIDTH - 95.0) else 0.0, place.key)
    return {key for key in places if not key.startswith("node:")} | set(first.values())


def _straight(client: Place, server: Place, shift: float, forward: bool) -> tuple[str, tuple[float, float]]:
    """Path from edge to edge, moved sideways by `shift` lanes, and where its number stands."""
    dx, dy = server.x - client.x, server.y - client.y
    length = math.hypot(dx, dy) or 1.0
    # Lanes are counted from the pair's first place, whichever way the line runs.
    lane = shift * 11 * (1 if forward else -1)
    nx, ny = -dy / length * lane, dx / length * lane
    start = _edge(client, client.x + nx, client.y + ny, dx, dy, 2)
    stop = _edge(server, server.x + nx, server.y + ny, -dx, -dy, 4)
    apart = max(0.13, 24 / math.dist(start, stop)) if start != stop else 0.0
    along = min(max(0.5 + shift * apart * (1 if forward else -1), 0.1), 0.9)
    x, y = start[0] + (stop[0] - start[0]) * along, start[1] + (stop[1] - start[1]) * along
    return f"M{start[0]:.1f} {start[1]:.1f}L{stop[0]:.1f} {stop[1]:.1f}", (x, y)


def _edge(place: Place, x: float, y: float, dx: float, dy: float, gap: float) -> tuple[float, float]:
    """Where the ray from (x, y) inside a box leaves it, and `gap` units further."""
    length = math.hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    reach = [math.inf]
    if ux:
        reach.append((place.x + math.copysign(place.width / 2, ux) - x) / ux)
    if uy:
        reach.append((place.y + math.copysign(place.height / 2, uy) - y) / uy)
    far = max(min(reach), 0.0) + gap
    return x + ux * far, y + uy * far


def _loop(place: Place, position: int) -> tuple[str, tuple[float, float]]:
    """Traffic within one place: an arc over the upper edge of its box, below it where there is no room above."""
    up = -1 if place.y > _SIDE_TOP / 2 else 1
    x = place.x + place.width / 2 - 24 - position * 34
    y = place.y + up * place.height / 2
    bow = y + up * 52
    path = f"M{x - 12:.1f} {y:.1f}C{x - 20:.1f} {bow:.1f} {x + 20:.1f} {bow:.1f} {x + 12:.1f} {y + up * 4:.1f}"
    return path, (x, y + up * 38)
