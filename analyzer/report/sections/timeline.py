"""When things happened: traffic of each channel over time, and the events worth pointing at.

Traffic is counted packet by packet while flows are; events are what was read from octets, at the time of the frame
that shows them. A bound on what is listed keeps the document small: every kind is counted in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.protocols.evidence import Evidence
from analyzer.registries import Ternary
from analyzer.report.audit_result import Document, time_text
from analyzer.rules import Audit
from analyzer.schema import I64, HttpMessage, Mask

EVENT_KINDS: Final = ("credential", "session", "refusal", "cleartext-request", "handshake")
"""What one looks for first stands first."""
MAX_LISTED: Final = 40
"""Events of one kind that are listed one by one."""
_MAX_TEXT: Final = 160
_TO_KUBELET: Final = "apiserver-to-kubelet"

# kubelet server (pkg/kubelet/server) and API server subresources: what opens an interactive stream in a container.
_SESSION: Final = re.compile(r"/(exec|attach|portforward|portForward|run)(/|\?|$)")


@dataclass(frozen=True, slots=True)
class _Event:
    kind: str
    frame: int
    flow: int
    text: str


def timeline(audit: Audit, channel_of: Sequence[str], order: Sequence[str]) -> Document:
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
    events = list(_requests(evidence, audit.connections))
    times = evidence.frame_times.at(np.array([event.frame for event in events], np.int64))
    counts = dict.fromkeys(EVENT_KINDS, 0)
    by_bin = {kind: [0] * bins for kind in EVENT_KINDS}
    for event, bin_number in zip(events, ((times >> traffic.shift) - first).tolist(), strict=True):
        counts[event.kind] += 1
        if 0 <= bin_number < bins:
            by_bin[event.kind][bin_number] += 1
    listed_events = _listed(zip(events, times.tolist(), strict=True))
    to_kubelet = np.array([name == _TO_KUBELET for name in channel_of], bool)
    for kind, flows, frames in _handshakes(evidence, audit.connections, to_kubelet):
        times = evidence.frame_times.at(frames)
        counts[kind] += flows.shape[0]
        places = (times >> traffic.shift) - first
        inside = places[(places >= 0) & (places < bins)]
        by_bin[kind] = (np.bincount(inside, minlength=bins) + by_bin[kind]).tolist() if bins else []
        # There may be one a connection: only those that are listed become objects.
        chosen = np.lexsort((frames, times))[:MAX_LISTED]
        described = (_handshake(evidence, kind, flow) for flow in flows[chosen].tolist())
        shown = zip(frames[chosen].tolist(), flows[chosen].tolist(), described, strict=True)
        listed_events += zip((_Event(kind, *event) for event in shown), times[chosen].tolist(), strict=True)
    listed_events = _listed(listed_events)
    return {
        "start_time": time_text(first << traffic.shift if bins else None),
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
                "time": time_text(time or None),
                "frame": event.frame,
                "capture": 0,
                "connection": event.flow,
                "channel": channel_of[event.flow],
                "text": event.text[:_MAX_TEXT],
            }
            for event, time in listed_events
        ],
    }


def _by_time(event: tuple[_Event, int]) -> tuple[int, int]:
    return event[1], event[0].frame


def _listed(events: Iterable[tuple[_Event, int]]) -> list[tuple[_Event, int]]:
    """The first `MAX_LISTED` of each kind, in order of time."""
    left = dict.fromkeys(EVENT_KINDS, MAX_LISTED)
    chosen = []
    for event, time in sorted(events, key=_by_time):
        if left[event.kind]:
            left[event.kind] -= 1
            chosen.append((event, time))
    return chosen


def _requests(evidence: Evidence, wanted: Mask) -> Iterator[_Event]:
    """What was asked for in clear on the `wanted` flows."""
    for flow, requests in evidence.requests.items():
        if wanted[flow]:
            yield from _of_requests(flow, requests)


def _of_requests(flow: int, requests: Iterable[HttpMessage]) -> Iterator[_Event]:
    for request in requests:
        text = f"{request.method} {request.forwarded_uri or request.target}"
        if request.credential:
            yield _Event("credential", request.frame, flow, f"{text} carries {request.credential}")
        elif _SESSION.search(request.forwarded_uri or request.target) and (request.upgrade or request.method == "POST"):
            yield _Event("session", request.frame, flow, text)
        else:
            yield _Event("cleartext-request", request.frame, flow, text)


def _handshakes(evidence: Evidence, wanted: Mask, to_kubelet: Mask) -> Iterator[tuple[str, I64, I64]]:
    """Kind of event, the `wanted` flows on which it happened, and the frame that shows it on each.

    The API server dials kubelets offering h2 and http/1.1; http/1.1 alone it offers only where the connection is to be
    upgraded (k8s.io/apimachinery/pkg/util/httpstream): for exec, attach and port-forward.
    """
    hello = evidence.tls_column("client_hello_frame")
    refused = evidence.tls_is("refused", Ternary.YES)
    shown = hello.copy()
    for name in ("server_certificate", "client_flight", "client_alert"):  # the last one there is shows it
        frame = evidence.tls_column(f"{name}_frame")
        shown[frame > 0] = frame[frame > 0]
    flows = np.flatnonzero(wanted & refused)
    yield "refusal", flows, shown[flows]
    flows = np.flatnonzero(wanted & ~refused & (hello > 0))
    yield "handshake", flows, hello[flows]
    upgrades = to_kubelet & evidence.client_is_go & evidence.tls_text_in("alpn_offered", frozenset({"http/1.1"}))
    flows = np.flatnonzero(wanted & ~refused & (hello > 0) & upgrades)
    yield "session", flows, hello[flows]


def _handshake(evidence: Evidence, kind: str, flow: int) -> str:
    row = int(evidence.tls_row[flow])
    number = int(evidence.tls.facts.sni[row])
    to = f" to {evidence.tls.strings[number]}" if number >= 0 and evidence.tls.strings[number] else ""
    if kind == "refusal":
        return f"the client refused the server's certificate{to}"
    if kind == "session":
        return f"exec, attach or port-forward{to}, inferred: the API server offers http/1.1 alone"
    established = evidence.tls.facts.established[row] == Ternary.YES
    return f"TLS handshake{to}: {'completed' if established else 'not completed, or not captured whole'}"
