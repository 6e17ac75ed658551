"""The hub-and-spoke picture, drawn as SVG text: one line a channel between the places it joins.

Verdicts are told by dash pattern, number and title as well as by colour; colours are classes, so that the page decides
them for light, dark and print. Every line is a link to its channel's anchor.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from analyzer.report.map_layout import (
    SIDE_TOP,
    SIDES,
    WIDTH,
    Place,
    Spoke,
    count_text,
    grouped_nodes,
    places_of,
    spokes_of,
)
from analyzer.report.schema_document import ChannelEntry, as_document
from analyzer.report.text import visible

_MAX_BADGED_NODES: Final = 6
_MAX_LABEL: Final = 19
"""Characters that fit into a box; the whole name is its title."""


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
    spokes, hosts = spokes_of(typed)
    if not spokes:
        return ""
    spokes, groups = grouped_nodes(spokes)
    places, height = places_of(spokes, groups, hosts)
    number = {row: position + 1 for position, row in enumerate(order)}
    parts = [
        f'<svg class="map" viewBox="0 0 {WIDTH} {height:.0f}" role="group" aria-labelledby="map-title map-note">',
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
                f"{channel['title']}: {verdict}, {count_text(spoke.connections, 'connection', 'connections')}, "
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
        first.setdefault(place.x if place.x in SIDES else 0.0, place.key)
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
    up = -1 if place.y > SIDE_TOP / 2 else 1
    x = place.x + place.width / 2 - 24 - position * 34
    y = place.y + up * place.height / 2
    bow = y + up * 52
    path = f"M{x - 12:.1f} {y:.1f}C{x - 20:.1f} {bow:.1f} {x + 20:.1f} {bow:.1f} {x + 12:.1f} {y + up * 4:.1f}"
    return path, (x, y + up * 38)
