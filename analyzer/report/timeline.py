"""When things happened: traffic of each channel over time, and the events worth pointing at.

Traffic is counted packet by packet while flows are; events are what was read from octets, at the time of the frame
that shows them. A bound on what is listed keeps the document small: every kind is counted in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from analyzer.protocols.evidence import Evidence
from analyzer.registries import Ternary
from analyzer.rules import Audit
from analyzer.schema import I64, HttpMessage, Mask

EVENT_KINDS: Final = ("credential", "session", "refusal", "cleartext-request", "handshake")
"""What one looks for first stands first."""
MAX_LISTED: Final = 40
"""Events of one kind that are listed one by one."""
_MAX_TEXT: Final = 160

# kubelet server (pkg/kubelet/server) and API server subresources: what opens an interactive stream in a container.
_SESSION: Final = re.compile(r"/(exec|attach|portforward|portForward|run)(/|\?|$)")


@dataclass(frozen=True, slots=True)
class _Event:
    kind: str
    frame: int
    flow: int
    text: str


def timeline(audit: Audit, channel_of: Sequence[str], order: Sequence[str]) -> dict[str, Any]:
    """Return the section of the document.

    Parameters
    ----------
    audit : Audit
    channel_of : sequence of str, (F,)
        Channel id of each flow.
    order : sequence of str
        Ids of the channels to list, in this order.
    """
    evidence = audit.evidence
    traffic = evidence.traffic
    counted = audit.connections[traffic.flow]
    flow, number = traffic.flow[counted], traffic.bin[counted]
    first = int(number.min()) if number.shape[0] else 0
    bins = int(number.max()) - first + 1 if number.shape[0] else 0
    place = {channel: row for row, channel in enumerate(order)}
    channel = np.array([place.get(name, -1) for name in channel_of], np.int64)[flow]
    code = channel * bins + (number - first)
    listed = channel >= 0

    def by_channel(column: I64) -> list[list[int]]:
        summed = np.bincount(code[listed], column[counted][listed], minlength=len(order) * bins)
        rows: list[list[int]] = summed.astype(np.int64).reshape(len(order), bins).tolist()
        return rows

    packets, octets = by_channel(traffic.packets), by_channel(traffic.octets)
    events = list(_events(evidence, audit.connections))
    times = evidence.frame_times.at(np.array([event.frame for event in events], np.int64))
    counts = dict.fromkeys(EVENT_KINDS, 0)
    by_bin = {kind: [0] * bins for kind in EVENT_KINDS}
    for event, bin_number in zip(events, ((times >> traffic.shift) - first).tolist(), strict=True):
        counts[event.kind] += 1
        if 0 <= bin_number < bins:
            by_bin[event.kind][bin_number] += 1
    return {
        "start_ns": first << traffic.shift if bins else None,
        "bin_ns": 1 << traffic.shift,
        "bins": bins,
        "frame_stride": evidence.frame_times.stride,
        "channels": [
            {"id": name, "packets": packets[row], "octets": octets[row]} for row, name in enumerate(order) if bins
        ],
        "event_counts": counts,
        "event_bins": by_bin,
        "events": [
            {
                "kind": event.kind,
                "time_ns": time or None,
                "frame": event.frame,
                "capture": 0,
                "connection": event.flow,
                "channel": channel_of[event.flow],
                "text": event.text[:_MAX_TEXT],
            }
            for event, time in _listed(events, times.tolist())
        ],
    }


def _listed(events: Sequence[_Event], times: Sequence[int]) -> list[tuple[_Event, int]]:
    """The first `MAX_LISTED` of each kind, in order of time."""
    left = dict.fromkeys(EVENT_KINDS, MAX_LISTED)
    chosen = []
    for event, time in sorted(zip(events, times, strict=True), key=lambda pair: (pair[1], pair[0].frame)):
        if left[event.kind]:
            left[event.kind] -= 1
            chosen.append((event, time))
    return chosen


def _events(evidence: Evidence, wanted: Mask) -> Iterator[_Event]:
    """Everything that happened on the `wanted` flows."""
    for flow, requests in evidence.requests.items():
        if wanted[flow]:
            yield from _of_requests(flow, requests)
    yield from _handshakes(evidence, wanted)


def _of_requests(flow: int, requests: Iterable[HttpMessage]) -> Iterator[_Event]:
    for request in requests:
        text = f"{request.method} {request.forwarded_uri or request.target}"
        if request.credential:
            yield _Event("credential", request.frame, flow, f"{text} carries {request.credential}")
        elif _SESSION.search(request.forwarded_uri or request.target) and (request.upgrade or request.method == "POST"):
            yield _Event("session", request.frame, flow, text)
        else:
            yield _Event("cleartext-request", request.frame, flow, text)


def _handshakes(evidence: Evidence, wanted: Mask) -> Iterator[_Event]:
    hello = evidence.tls_column("client_hello_frame")
    refused = evidence.tls_is("refused", Ternary.YES)
    established = evidence.tls_is("established", Ternary.YES)
    answers = np.stack(
        [evidence.tls_column(f"{name}_frame") for name in ("client_alert", "client_flight", "server_certificate")]
    )
    names = evidence.tls_text("sni")
    for flow in np.flatnonzero(wanted & ((hello > 0) | refused)).tolist():
        to = f" to {names[flow]}" if names[flow] else ""
        if refused[flow]:
            shown = next((int(frame) for frame in answers[:, flow] if frame > 0), int(hello[flow]))
            yield _Event("refusal", shown, flow, f"the client refused the server's certificate{to}")
        elif hello[flow]:
            how = "completed" if established[flow] else "not completed, or not captured whole"
            yield _Event("handshake", int(hello[flow]), flow, f"TLS handshake{to}: {how}")
