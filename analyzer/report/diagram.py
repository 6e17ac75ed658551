"""The hub-and-spoke picture, drawn as SVG text: one line a channel between the places it joins.

Verdicts are told by dash pattern, by the sign in the line's badge and by its title as well as by colour; colours are
classes, so that the page decides them for light, dark and print. Every line is a link to its channel's anchor, every
node to its row in the list of nodes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from analyzer.report.map_layout import (
    SIDES,
    WIDTH,
    Place,
    Spoke,
    count_text,
    grouped_nodes,
    places_of,
    spokes_of,
)
from analyzer.report.map_routes import line, loop
from analyzer.report.schema_document import ChannelEntry, as_document
from analyzer.report.text import visible

_MAX_BADGED_NODES: Final = 3
_SIGNS: Final = {"at-risk": "✗", "undecidable": "?", "sound": "✓", "informational": "·"}
_MAX_LABEL: Final = 19
"""Characters that fit into a box; the whole name is its title."""


def hub_and_spoke(document: Mapping[str, Any], order: Sequence[int], node_anchors: Mapping[str, str]) -> str:
    """Draw the channels of a document.

    Parameters
    ----------
    document : mapping
        A report document.
    order : sequence of int
        Rows of ``document["channels"]`` in the order of their numbers: the first is number 1.
    node_anchors : mapping of str to str
        Anchor of each node's row, by the node's name.

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
    drawn, badges, lowest = _lines(spokes, places, typed["channels"], number)
    height = max(height, lowest + 26)
    parts = [
        f'<svg class="map" viewBox="0 0 {WIDTH} {height:.0f}" role="group" aria-labelledby="map-title map-note">',
        '<title id="map-title">Channels between the control plane and its nodes</title>',
        '<desc id="map-note">Each line is one channel, drawn from client to server, with the number it has in the list '
        "below. Line width grows with traffic; dash pattern and sign tell the verdict.</desc>",
        _defs(),
        _plane(places),
    ]
    parts += drawn
    parts += [_box(place, _target(groups.get(place.key, ()), node_anchors)) for place in places.values()]
    parts += badges
    parts.append("</svg>")
    return "\n".join(parts)


def _target(members: Sequence[str], node_anchors: Mapping[str, str]) -> str:
    """Where a box leads: one node to its row, several to the list, other places nowhere."""
    if len(members) == 1:
        return node_anchors.get(members[0].removeprefix("node:"), "")
    return "nodes" if members else ""


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


def _box(place: Place, target: str) -> str:
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
    group = (
        f'<g>{shadow}<rect class="box {place.kind}" x="{x:.1f}" y="{y:.1f}" width="{place.width:.0f}" '
        f'height="{place.height:.0f}" rx="9"/>{text}<title>{escape(visible(place.title))}</title></g>'
    )
    if not target:
        return group
    return f'<a class="place" href="#{escape(target)}" aria-label="{escape(visible(place.title))}">{group}</a>'


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def _lines(
    spokes: Sequence[Spoke], places: Mapping[str, Place], channels: Sequence[ChannelEntry], number: Mapping[int, int]
) -> tuple[list[str], list[str], float]:
    """Return the lines, their badges, which stand above everything, and how far down the lines reach."""
    pairs: dict[tuple[str, str], list[Spoke]] = defaultdict(list)
    for spoke in sorted(spokes, key=lambda s: number[s.channel]):
        pairs[min(spoke.client, spoke.server), max(spoke.client, spoke.server)].append(spoke)
    busiest = max(spoke.octets for spoke in spokes)
    badged = _badged_places(places)
    lines, badges = [], []
    lowest = 0.0
    for (first, second), together in pairs.items():
        for position, spoke in enumerate(together):
            channel = channels[spoke.channel]
            shift = position - (len(together) - 1) / 2
            width = 1.4 + 3.2 * math.log1p(spoke.octets) / math.log1p(max(busiest, 1))
            if first == second:
                path, badge = loop(places[first], position)
            else:
                path, badge, bottom = line(places, spoke.client, spoke.server, shift, forward=first == spoke.client)
                lowest = max(lowest, bottom)
            verdict = spoke.verdict
            label = (
                f"{channel['title']}: {verdict}, {count_text(spoke.connections, 'connection', 'connections')}, "
                f"{places[spoke.client].title} to {places[spoke.server].title}"
            )
            opening = (
                f'<a href="#channel-{escape(channel["id"])}" data-channel="{escape(channel["id"])}" '
                f'aria-label="{escape(visible(label))}">'
            )
            lines.append(
                f'{opening}<path class="hit" d="{path}"/><path class="line {verdict}" d="{path}" '
                f'stroke-width="{width:.1f}" marker-end="url(#head-{verdict})"/>'
                f"<title>{escape(visible(label))}</title></a>"
            )
            if {first, second} <= badged:
                x, y = badge
                badges.append(
                    f'<g class="badge {verdict}" data-channel="{escape(channel["id"])}" aria-hidden="true">'
                    f'<rect x="{x - 18:.1f}" y="{y - 10:.1f}" width="36" height="20" rx="10"/>'
                    f'<text x="{x:.1f}" y="{y + 4:.1f}">{_SIGNS[verdict]} {number[spoke.channel]}</text></g>'
                )
    return lines, badges, lowest


def _badged_places(places: Mapping[str, Place]) -> set[str]:
    """All places where nodes are few; else of the nodes only the first of each side."""
    nodes = [place for place in places.values() if place.kind in ("node", "nodes")]
    if len(nodes) <= _MAX_BADGED_NODES:
        return set(places)
    first: dict[float, str] = {}
    for place in nodes:
        first.setdefault(place.x if place.x in SIDES else 0.0, place.key)
    return {key for key in places if not key.startswith("node:")} | set(first.values())
