"""How lines run in the hub-and-spoke picture: straight where they can, bent around boxes that are in the way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from analyzer.report.map_layout import SIDE_TOP, WIDTH, Place

Point = tuple[float, float]

_LANE: Final = 13.0
"""Units between parallel lines; on short lines `_WIDE_LANE`, so that their badges stand side by side."""
_WIDE_LANE: Final = 36.0
_SHORT: Final = 160.0
_CLEAR: Final = 15.0
"""Units a line keeps from a box it passes."""
_BENDS: Final = (70, -70, 130, -130, 200, -200, 280, -280, 360, -360)
"""Distances of a bent line's control point from the straight line, tried in this order."""
_STEPS: Final = 24


def line(
    places: Mapping[str, Place], client: str, server: str, shift: float, *, forward: bool
) -> tuple[str, Point, float]:
    """Return the path from edge to edge, where its badge stands, and the lowest point of both.

    Parameters
    ----------
    places : mapping of str to Place
    client, server : str
        Keys of the places the line joins; it runs from client to server.
    shift : float
        Lane of the line beside others between the same two places; 0 is the middle.
    forward : bool
        Lanes are counted from the pair's first place: whether that is the client.
    """
    start_place, stop_place = places[client], places[server]
    dx, dy = stop_place.x - start_place.x, stop_place.y - start_place.y
    length = math.hypot(dx, dy) or 1.0
    side = 1 if forward else -1
    gap = math.dist(_edge(start_place, dx, dy, 0), _edge(stop_place, -dx, -dy, 0))
    lane = shift * (_WIDE_LANE if gap < _SHORT else _LANE) * side
    nx, ny = -dy / length, dx / length
    start = _edge(start_place, dx, dy, 2, nx * lane, ny * lane)
    stop = _edge(stop_place, -dx, -dy, 4, nx * lane, ny * lane)
    others = [place for key, place in places.items() if key not in (client, server)]
    if gap < _SHORT:
        along = 0.5
    else:
        apart = max(0.13, 42 / math.dist(start, stop)) if start != stop else 0.0
        along = min(max(0.5 + shift * apart * side, 0.12), 0.88)
    if _passes(_curve(start, stop, None), others):
        return f"M{_text(start)}L{_text(stop)}", _at(start, stop, None, along), max(start[1], stop[1])
    middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2)
    for bend in _BENDS:
        control = (middle[0] + nx * bend * side, middle[1] + ny * bend * side)
        if not (0 <= control[0] <= WIDTH and control[1] >= 0):
            continue
        toward = (control[0] - start_place.x, control[1] - start_place.y)
        back = (control[0] - stop_place.x, control[1] - stop_place.y)
        bent_start = _edge(start_place, *toward, 2, nx * lane, ny * lane)
        bent_stop = _edge(stop_place, *back, 4, nx * lane, ny * lane)
        if _passes(_curve(bent_start, bent_stop, control), others):
            path = f"M{_text(bent_start)}Q{_text(control)} {_text(bent_stop)}"
            lowest = max(y for _, y in _curve(bent_start, bent_stop, control))
            return path, _at(bent_start, bent_stop, control, along), lowest
    return f"M{_text(start)}L{_text(stop)}", _at(start, stop, None, along), max(start[1], stop[1])


def loop(place: Place, position: int) -> tuple[str, Point]:
    """Traffic within one place: an arc over the upper edge of its box, below it where there is no room above."""
    up = -1 if place.y > SIDE_TOP / 2 else 1
    x = place.x + place.width / 2 - 24 - position * 42
    y = place.y + up * place.height / 2
    bow = y + up * 52
    path = f"M{x - 12:.1f} {y:.1f}C{x - 20:.1f} {bow:.1f} {x + 20:.1f} {bow:.1f} {x + 12:.1f} {y + up * 4:.1f}"
    return path, (x, y + up * 38)


def _edge(place: Place, dx: float, dy: float, gap: float, x: float = 0.0, y: float = 0.0) -> Point:
    """Where the ray from a box's centre, moved by (x, y), leaves the box, and `gap` units further."""
    length = math.hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    x, y = place.x + x, place.y + y
    reach = [math.inf]
    if ux:
        reach.append((place.x + math.copysign(place.width / 2, ux) - x) / ux)
    if uy:
        reach.append((place.y + math.copysign(place.height / 2, uy) - y) / uy)
    far = max(min(reach), 0.0) + gap
    return x + ux * far, y + uy * far


def _at(start: Point, stop: Point, control: Point | None, t: float) -> Point:
    if control is None:
        return start[0] + (stop[0] - start[0]) * t, start[1] + (stop[1] - start[1]) * t
    a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return a * start[0] + b * control[0] + c * stop[0], a * start[1] + b * control[1] + c * stop[1]


def _curve(start: Point, stop: Point, control: Point | None) -> list[Point]:
    return [_at(start, stop, control, step / _STEPS) for step in range(_STEPS + 1)]


def _passes(points: Iterable[Point], others: Iterable[Place]) -> bool:
    """Whether none of the points lies in, or too near to, one of the boxes."""
    return not any(
        abs(x - place.x) < place.width / 2 + _CLEAR and abs(y - place.y) < place.height / 2 + _CLEAR
        for x, y in points
        for place in others
    )


def _text(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
