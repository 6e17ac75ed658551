"""Traffic and events over time as small SVG charts; colours and strokes are classes that the page decides.

All lanes share one time axis; each has its own scale, and its peak is written beside it, so that a quiet channel can be
read next to a busy one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Any, Final

from analyzer.report.schema_document import Document, Timeline
from analyzer.report.terminal_style import duration_text
from analyzer.report.text import visible

HEIGHT: Final = 32
"""Of one lane, in user units; the width is one unit a bin."""
_STEPS: Final = (1, 2, 5)
_MAX_TICKS: Final = 8
EVENT_TITLES: Final = {
    "credential": "Credentials in clear",
    "session": "exec, attach, port-forward",
    "refusal": "Certificates refused",
    "cleartext-request": "Requests in clear",
    "handshake": "TLS handshakes",
}
EVENT_TONES: Final = {
    "credential": "risk",
    "session": "open",
    "refusal": "good",
    "cleartext-request": "risk",
    "handshake": "plain",
}


@dataclass(frozen=True, slots=True)
class Lane:
    """Traffic of one channel over time."""

    channel: str
    svg: str
    peak: float  #: octets a second, in the busiest bin
    active: int  #: bins with a packet


@dataclass(frozen=True, slots=True)
class EventLane:
    """Events of one kind over time."""

    kind: str
    title: str
    tone: str
    svg: str
    count: int


def timeline_of(document: Document) -> Timeline | None:
    """Return the timeline, or None where the document (of an older version) has none or nothing was timed."""
    optional: Mapping[str, Any] = document
    timeline: Timeline | None = optional.get("timeline")
    return timeline if timeline and timeline["bins"] else None


def lanes(document: Document, timeline: Timeline) -> dict[str, Lane]:
    """Return the traffic of each channel, by its id."""
    titles = {channel["id"]: channel["title"] for channel in document["channels"]}
    verdicts = {channel["id"]: channel["verdict"] for channel in document["channels"]}
    found = {}
    for traffic in timeline["channels"]:
        if traffic["id"] not in titles:
            continue
        octets = traffic["octets"]
        active = sum(packets > 0 for packets in traffic["packets"])
        peak = max(octets, default=0) / (timeline["bin_ns"] / 1e9)
        label = f"{titles[traffic['id']]}: packets in {active} of {timeline['bins']} intervals"
        found[traffic["id"]] = Lane(traffic["id"], _area(octets, verdicts[traffic["id"]], visible(label)), peak, active)
    return found


def event_lanes(timeline: Timeline) -> list[EventLane]:
    """Return the kinds of events that happened, each over time."""
    return [
        EventLane(kind, title, EVENT_TONES[kind], _marks(kind, timeline), timeline["event_counts"][kind])
        for kind, title in EVENT_TITLES.items()
        if timeline["event_counts"].get(kind)
    ]


def axis(timeline: Timeline) -> list[tuple[float, str, str]]:
    """Return round moments on the time axis: (percent from the left, time since the start, time of day)."""
    span = timeline["bins"] * timeline["bin_ns"] / 1e9
    step = _round_step(span)
    start = datetime.fromisoformat((timeline["start_time"] or "1970-01-01T00:00:00")[:19])
    ticks = []
    at = 0.0
    while at <= span * 0.97:
        clock = (start + timedelta(seconds=round(at))).strftime("%H:%M:%S")
        ticks.append((100 * at / span, "0" if at == 0 else duration_text(at), clock))
        at += step
    return ticks


def _round_step(span: float) -> float:
    """Distance between ticks: seconds in steps of 1, 2, 5; minutes and hours as clocks have them."""
    rounds = [digit * 10.0**power for power in range(-4, 2) for digit in _STEPS if digit * 10.0**power <= 30]
    rounds += [60.0 * m for m in (1, 2, 5, 10, 15, 30)] + [3600.0 * h for h in (1, 2, 3, 6, 12, 24, 48, 168)]
    return next((step for step in sorted(rounds) if span / step <= _MAX_TICKS), span / _MAX_TICKS)


def _area(values: Sequence[int], verdict: str, label: str) -> str:
    """A stepped area; neighbours of the same height are one step."""
    top = max(values, default=0) or 1
    path = [f"M0 {HEIGHT}"]
    before = None
    for place, value in enumerate(values):
        # What is there is seen: a bin with traffic is at least a line high.
        height = HEIGHT - (max(1.5, (HEIGHT - 2) * value / top) if value else 0)
        if height != before:
            path.append(f"{'' if before is None else f'H{place}'}V{height:.4g}")
            before = height
    path.append(f"H{len(values)}V{HEIGHT}Z")
    return (
        f'<svg class="lane" viewBox="0 0 {len(values)} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><path class="area {escape(verdict)}" d="{"".join(path)}"/></svg>'
    )


def _marks(kind: str, timeline: Timeline) -> str:
    """One stroke for each bin with an event, taller where there were more."""
    counts = timeline["event_bins"][kind]
    top = max(counts, default=0) or 1
    strokes = "".join(
        f"M{place + 0.5} {HEIGHT}V{HEIGHT - 8 - (HEIGHT - 9) * count / top:.4g}"
        for place, count in enumerate(counts)
        if count
    )
    label = f"{EVENT_TITLES[kind]}: in {sum(count > 0 for count in counts)} of {timeline['bins']} intervals"
    return (
        f'<svg class="lane" viewBox="0 0 {timeline["bins"]} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><path class="marks {EVENT_TONES[kind]}" d="{strokes}"/></svg>'
    )
