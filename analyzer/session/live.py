"""An analysis that never ends: chunks go in, and what is known so far comes out as often as somebody looks.

The stages are those of `pipeline.run`. Looking changes nothing of what they hold, so that the report at the end says
what an analysis of the same packets from a file says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from typing import Protocol as TypingProtocol

from analyzer.pipeline import ClusterContext, Limits, Pipeline, conclude
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.report.document import AuditResult, CaptureSummary, InputSummary, LeftOut
from analyzer.report.live_view import LiveView
from analyzer.schema import CaptureChunk, Damage, Interface, VantagePoint
from analyzer.session.ageing import ActivityClock, Ageing, is_over
from analyzer.session.glance import Glance, Meter, channel_of_flows
from analyzer.session.rereading import Rereader

SHARE: Final = 10
"""One part in so many of the time may go into concluding anew."""
_SOONEST_NS: Final = 250_000_000
"""Between two conclusions, however little they cost."""


class FeedFacts(TypingProtocol):
    """What a report says of where the frames came from."""

    name: str
    format: str
    interfaces: list[Interface]
    damage: list[Damage]
    names: list[tuple[str, str]]
    comments: list[tuple[int, str]]

    @property
    def octets_read(self) -> int:
        """Octets read so far."""


class LiveSession:
    """One live analysis.

    Parameters
    ----------
    cluster : ClusterContext, optional
    limits : Limits, optional
    keys : KeyLog, optional
    ageing : Ageing, optional
    """

    def __init__(
        self,
        cluster: ClusterContext | None = None,
        limits: Limits | None = None,
        keys: KeyLog | None = None,
        ageing: Ageing | None = None,
    ) -> None:
        self._cluster = cluster or ClusterContext()
        self._ageing = ageing or Ageing()
        self._pipeline = Pipeline(limits, keys)
        self._clock = ActivityClock()
        self._meter = Meter()
        self._glance = Glance()
        self._rereader = Rereader(self._pipeline)
        self._octets = 0
        self._concluded_ns = 0
        self._concluded_frame = 0
        self._next_ns = 0

    def use_secrets(self, key_log: bytes) -> None:
        """Take a key log that the capture holds: for connections that have not been settled yet."""
        self._pipeline.use_secrets(key_log)
        self._rereader.forget()

    def add(self, chunk: CaptureChunk, comments: Sequence[tuple[int, str]] = ()) -> None:
        """Take the frames of one chunk, and what the capture says of some of them: (frame, text)."""
        self._pipeline.add(chunk, comments)
        self._clock.feed(chunk.time_ns)
        self._octets += int(chunk.wire_len.sum())

    def tick(self, now_ns: int) -> LiveView:
        """Look: `now_ns` is the time of day. Cheap where nothing new was said."""
        pipeline = self._pipeline
        self._clock.tick(now_ns, pipeline.flows, pipeline.frames)
        self._meter.read(now_ns, pipeline.flows)
        if self._must_conclude(now_ns):
            self._conclude(now_ns)
        is_open = ~is_over(self._ageing, self._clock, pipeline.flows)
        _, packets_per_s, octets_per_s = self._meter.rates()
        return LiveView(
            now_ns,
            pipeline.frames,
            self._octets,
            packets_per_s,
            octets_per_s,
            self._glance.channels(self._meter, self._meter.count_by_channel(is_open)),
            self._glance.findings(),
            int(is_open.sum()),
            len(pipeline.flows),
            0,
            self._concluded_ns,
        )

    def _must_conclude(self, now_ns: int) -> bool:
        if self._concluded_frame == self._pipeline.frames or now_ns < self._next_ns:
            return False
        return self._pipeline.late_words or self._rereader.unsaid(self._concluded_frame)

    def _conclude(self, now_ns: int) -> None:
        begin = time.thread_time_ns()
        evidence = self._pipeline.evidence(read=self._rereader.reader(exact=False), traffic=False)
        result = conclude(evidence, self._pipeline.ledger, (), self._cluster)
        self._glance.take(result, now_ns)
        flows = self._pipeline.flows
        self._meter.assign(channel_of_flows(result, flows.in_order(), len(flows)))
        self._meter.recount()
        self._concluded_ns, self._concluded_frame = now_ns, self._pipeline.frames
        spent = time.thread_time_ns() - begin
        self._next_ns = now_ns + max(_SOONEST_NS, spent * (SHARE - 1))

    def result(self, feed: FeedFacts) -> AuditResult:
        """Everything so far, as `pipeline.run` gives it; may be asked any number of times."""
        pipeline = self._pipeline
        book = pipeline.book(0)
        evidence = pipeline.evidence(read=self._rereader.reader(exact=True))
        capture = CaptureSummary(
            feed.name,
            feed.format,
            feed.octets_read,
            book.ledger.frames,
            book.first_ns,
            book.last_ns,
            tuple(feed.interfaces),
            tuple(feed.damage),
            comments=tuple(feed.comments),
            ledger=book.ledger,
        )
        result = conclude(evidence, pipeline.ledger, [capture], self._cluster)
        inputs = InputSummary(
            (VantagePoint("", (0,), False, ""),),
            names=tuple(dict.fromkeys(feed.names)),
            left_out=LeftOut(pipeline.flows.left_out, pipeline.limits.max_flows),
        )
        return replace(result, inputs=inputs)
