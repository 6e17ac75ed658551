"""When things happened: traffic of each channel over time, and the events worth pointing at.

Traffic is counted packet by packet while flows are; events are what was read from octets, at the time of the frame
that shows them. A bound on what is listed keeps the document small: every kind is counted in full.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.cluster.channels import of_channel
from analyzer.numbers import distinct
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


class _Event(NamedTuple):
    kind: str
    time_ns: int
    frame: int
    place: int  # what sorts the events of one frame
    flow: int
    text: str


class _Happened(NamedTuple):
    """Events of one kind, and what is told of those that are listed: a function of a row."""

    kind: str
    flow: I64
    frame: I64
    place: I64
    tell: Callable[[int], str]


def timeline(audit: Audit, order: Sequence[str]) -> Document:
    """Return the section of the document.

    Parameters
    ----------
    audit : Audit
    order : sequence of str
        Ids of the channels to list, in this order.
    """
    evidence = audit.evidence
    traffic = evidence.traffic
    counted = audit.connections[traffic.flow]
    flow, number = traffic.flow[counted], traffic.bin[counted]
    first = int(number.min()) if number.shape[0] else 0
    bins = int(number.max()) - first + 1 if number.shape[0] else 0
    names = [channel.id for channel in channels()]
    place = {channel: row for row, channel in enumerate(order)}
    channel = np.array([place.get(name, -1) for name in names], np.int64)[audit.channels.channel[flow]]
    code = channel * bins + (number - first)
    listed = channel >= 0

    def by_channel(column: I64) -> list[list[int]]:
        summed = np.bincount(code[listed], column[counted][listed], minlength=len(order) * bins)
        rows: list[list[int]] = summed.astype(np.int64).reshape(len(order), bins).tolist()
        return rows

    packets, octets = by_channel(traffic.packets), by_channel(traffic.octets)
    counts = dict.fromkeys(EVENT_KINDS, 0)
    by_bin = {kind: np.zeros(bins, np.int64) for kind in EVENT_KINDS}
    events: list[_Event] = []
    for kind, flows, frames, places, tell in (*_requests(evidence, audit.connections), *_handshakes(audit)):
        times = evidence.frame_times.at(frames)
        counts[kind] += flows.shape[0]
        in_bin = (times >> traffic.shift) - first
        by_bin[kind] += np.bincount(in_bin[(in_bin >= 0) & (in_bin < bins)], minlength=bins)
        # There may be one a connection: only those that are listed become objects.
        events += [
            _Event(kind, int(times[row]), int(frames[row]), int(places[row]), int(flows[row]), tell(row))
            for row in np.lexsort((frames, times))[:MAX_LISTED].tolist()
        ]
    return {
        "start_time": time_text(first << traffic.shift if bins else None),
        "bin_ns": 1 << traffic.shift,
        "bins": bins,
        "frame_stride": evidence.frame_times.stride,
        "channels": [
            {"id": name, "packets": packets[row], "octets": octets[row]} for row, name in enumerate(order) if bins
        ],
        "event_counts": counts,
        "event_bins": {kind: numbers.tolist() for kind, numbers in by_bin.items()},
        "events": [
            {
                "kind": event.kind,
                "time": time_text(event.time_ns or None),
                "frame": event.frame,
                "capture": 0,
                "connection": event.flow,
                "channel": names[audit.channels.channel[event.flow]],
                "text": event.text[:_MAX_TEXT],
            }
            for event in _listed(events)
        ],
    }


def _listed(events: Iterable[_Event]) -> list[_Event]:
    """The first `MAX_LISTED` of each kind, in order of time."""
    left = dict.fromkeys(EVENT_KINDS, MAX_LISTED)
    chosen = []
    for event in sorted(events, key=lambda event: (event.time_ns, event.frame, event.place)):
        if left[event.kind]:
            left[event.kind] -= 1
            chosen.append(event)
    return chosen


def _requests(evidence: Evidence, wanted: Mask) -> Iterator[_Happened]:
    """What was asked for in clear on the `wanted` flows."""
    http = evidence.http
    told = [_of_request(message) for message in http.contents]
    kind_of = np.array([EVENT_KINDS.index(kind) for kind, _ in told], np.int64)
    rows = http.requests()
    rows = rows[wanted[http.flow[rows]]]
    kinds = kind_of[http.content[rows]] if told else rows
    for number in distinct(kinds).tolist():
        here = rows[kinds == number]

        def tell(row: int, here: I64 = here) -> str:
            return told[int(http.content[here[row]])][1]

        yield _Happened(EVENT_KINDS[number], http.flow[here], http.frame[here], here, tell)


def _of_request(request: HttpMessage) -> tuple[str, str]:
    """Kind of event and what is told of it."""
    text = f"{request.method} {request.forwarded_uri or request.target}"
    if request.credential:
        return "credential", f"{text} carries {request.credential}"
    if _SESSION.search(request.forwarded_uri or request.target) and (request.upgrade or request.method == "POST"):
        return "session", text
    return "cleartext-request", text


def _handshakes(audit: Audit) -> Iterator[_Happened]:
    """Connections and the frame that shows what happened on each.

    The API server dials kubelets offering h2 and http/1.1; http/1.1 alone it offers only where the connection is to be
    upgraded (k8s.io/apimachinery/pkg/util/httpstream): for exec, attach and port-forward.
    """
    evidence, wanted = audit.evidence, audit.connections
    hello = evidence.tls_column("client_hello_frame")
    refused = evidence.tls_is("refused", Ternary.YES)
    shown = hello.copy()
    for name in ("server_certificate", "client_flight", "client_alert"):  # the last one there is shows it
        frame = evidence.tls_column(f"{name}_frame")
        shown[frame > 0] = frame[frame > 0]
    upgrades = of_channel(audit.channels, _TO_KUBELET) & evidence.client_is_go
    upgrades &= evidence.tls_text_in("alpn_offered", frozenset({"http/1.1"}))
    seen = wanted & ~refused & (hello > 0)
    for kind, rows, frames in (
        ("refusal", wanted & refused, shown),
        ("handshake", seen, hello),
        ("session", seen & upgrades, hello),
    ):
        flows = np.flatnonzero(rows)

        def tell(row: int, kind: str = kind, flows: I64 = flows) -> str:
            return _handshake(evidence, kind, int(flows[row]))

        # Behind all requests.
        yield _Happened(kind, flows, frames[flows], flows + evidence.http.flow.shape[0], tell)


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
