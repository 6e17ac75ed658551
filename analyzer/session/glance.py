"""What a session knows at one moment as a `LiveView`: verdicts as of the last conclusion, counts as of now."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.flows import FlowBuilder
from analyzer.report.audit_result import AuditResult, Document
from analyzer.report.document import at_a_glance
from analyzer.report.live_rows import identity_of, live_channel, live_finding
from analyzer.report.live_view import LiveChannel, LiveFinding
from analyzer.schema import I64, Mask

RATE_NS: Final = 3_000_000_000
"""Time over which a rate is taken."""
LEG: Final = -2
"""In place of the channel of a flow that is a leg of another."""


class Meter:
    """Packets and octets of each channel: since the start, and lately.

    Flows are named by builder number. What a flow sent counts for the channel it is known to belong to now.
    """

    def __init__(self) -> None:
        self.count = len(channels())
        self.channel: I64 = np.empty(0, np.int64)  # of each flow; -1 = not known yet, LEG = a leg of another
        self._before: I64 = np.zeros((0, 2), np.int64)  # packets and octets of each flow at the last reading
        self._lately: deque[tuple[int, I64]] = deque()  # when a reading began, and what it added: (channels + 1, 2)
        self._since: int | None = None
        self.total: I64 = np.zeros((self.count, 2), np.int64)

    def assign(self, channel: I64, flows: I64, aside: I64, behind: I64) -> None:
        """Take the channels of `flows`, all of which have been read: (K,) int64 each.

        `aside` (S,) int64 are flows that are set aside, which have the channel of those they stand `behind`: there
        their connections are counted too, whatever becomes known of the cluster after they were set aside.
        """
        known = np.full(self._before.shape[0], -1, np.int64)
        known[: self.channel.shape[0]] = self.channel
        known[flows] = channel
        known[aside] = np.where(known[aside] == LEG, LEG, known[behind])
        self.channel = known
        self.total = self._by_channel(known, self._before)[: self.count]

    def count_by_channel(self, chosen: Mask) -> I64:
        """How many of the `chosen` flows each channel has: (channels,) int64."""
        place = self.channel[chosen[: self.channel.shape[0]]]
        return np.bincount(place[place >= 0], minlength=self.count)

    def connections(self, chosen: Mask) -> int:
        """How many of the `chosen` flows are connections, as far as it is known."""
        return int(chosen.sum()) - int((self.channel[chosen[: self.channel.shape[0]]] == LEG).sum())

    def read(self, now_ns: int, flows: FlowBuilder) -> None:
        """Count what came since the last reading."""
        count = len(flows)
        state = flows.state
        now = np.stack([state.packets[:count].sum(axis=1), state.octets[:count].sum(axis=1)], axis=1)
        channel = np.full(count, -1, np.int64)
        channel[: self.channel.shape[0]] = self.channel
        added = now.copy()
        added[: self._before.shape[0]] -= self._before
        self._before = now
        self.total = self._by_channel(channel, now)[: self.count]
        if self._since is not None:
            self._lately.append((self._since, self._by_channel(channel, added)))
        self._since = now_ns
        while len(self._lately) > 1 and self._lately[1][0] <= now_ns - RATE_NS:
            self._lately.popleft()

    def _by_channel(self, channel: I64, values: I64) -> I64:
        place = np.where(channel < 0, self.count, channel)
        return np.stack(
            [np.bincount(place, values[:, i], minlength=self.count + 1).astype(np.int64) for i in (0, 1)], axis=1
        )

    def rates(self) -> tuple[np.ndarray[Any, np.dtype[np.float64]], float, float]:
        """Packets and octets a second of each channel (channels, 2), and of all flows together."""
        if self._since is None or not self._lately or self._since <= self._lately[0][0]:
            return np.zeros((self.count, 2)), 0.0, 0.0
        seconds = (self._since - self._lately[0][0]) / 1e9
        summed = np.sum([values for _, values in self._lately], axis=0) / seconds
        whole = summed.sum(axis=0)
        return summed[: self.count], float(whole[0]), float(whole[1])

    def keep(self, numbers: I64) -> None:
        """Flow ``numbers[i]`` is flow i from now on."""
        self.channel = self.channel[numbers[numbers < self.channel.shape[0]]]
        self._before = self._before[numbers[numbers < self._before.shape[0]]]
        self.total = self._by_channel(self.channel, self._before)[: self.count]


class Glance:
    """The rows of the last conclusion, and since when each finding is known."""

    def __init__(self) -> None:
        self._channels: Sequence[Document] = ()
        self._findings: Sequence[tuple[str, int, Document]] = ()
        self._first_seen: dict[str, int] = {}
        self._number = {channel.id: row for row, channel in enumerate(channels())}

    def take(self, result: AuditResult, now_ns: int) -> None:
        """Take a conclusion."""
        self._channels, findings = at_a_glance(result)
        named: list[tuple[str, int, Document]] = []
        weight = result.audit.evidence.weight
        for row, finding in zip(findings, result.findings, strict=True):
            identity = identity_of(row)
            self._first_seen.setdefault(identity, now_ns)
            named.append((identity, int(weight[list(finding.connections)].sum()), row))
        self._findings = named

    def channels(self, meter: Meter, open_by_channel: I64, left: I64) -> tuple[LiveChannel, ...]:
        """Channels, worst first, with counts of now; `left` as of `Archive.by_channel`."""
        rates, _, _ = meter.rates()
        traffic = meter.total + left[:, 1:]
        rows = []
        for row in self._channels:
            number = self._number[row["id"]]
            packets, octets = traffic[number].tolist()
            packets_per_s, octets_per_s = rates[number].tolist()
            rows.append(
                live_channel(
                    row,
                    open_now=int(open_by_channel[number]),
                    traffic=(packets, octets),
                    rates=(packets_per_s, octets_per_s),
                )
            )
        return tuple(rows)

    def findings(self) -> tuple[LiveFinding, ...]:
        """Findings, most severe first."""
        return tuple(
            live_finding(row, connections, self._first_seen[identity]) for identity, connections, row in self._findings
        )


def channel_of_flows(result: AuditResult, numbers: I64) -> I64:
    """Channel of each of the flows `numbers`, which are the evidence's first rows, or `LEG`."""
    rows = slice(0, numbers.shape[0])
    return np.where(result.audit.connections[rows], result.audit.channels.channel[rows], LEG)
