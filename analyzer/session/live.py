"""An analysis that never ends: chunks go in, and what is known so far comes out as often as somebody looks.

The stages are those of `analysis.run`. Looking changes nothing of what they hold, so that the report at the end says
what an analysis of the same packets from a file says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from typing import Protocol as TypingProtocol

import numpy as np

from analyzer.analysis import ClusterContext, conclude
from analyzer.capture.source import give_back_freed_memory
from analyzer.pipeline import Limits, Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.report.audit_result import AuditResult, CaptureSummary, InputSummary, LeftOut
from analyzer.report.live_view import LiveView
from analyzer.schema import I64, CaptureChunk, CaptureOrigin, Damage, Interface, Mask, VantagePoint
from analyzer.session.ageing import ActivityClock, Ageing, is_over
from analyzer.session.archive import Archive, Leaving
from analyzer.session.glance import Glance, Meter, channel_of_flows
from analyzer.session.rereading import Rereader

SHARE: Final = 12
"""One part in so many of the time may go into concluding anew."""
OVERRUN_SHARE: Final = 2
"""Where connections come faster than they can be let go of."""
LIMITS: Final = Limits(settle_octets=8 << 20, heads_budget=64 << 20)
"""Less is held of connections that go on than for a file, where many are read together because that is faster."""
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
        `LIMITS` if not given. Twice as many flows are held as `ageing` says at the very most: between two conclusions
        more may come than that, and nothing can leave.
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
        limits = limits or LIMITS
        most = min(limits.max_flows, 2 * self._ageing.most)
        self._pipeline = Pipeline(replace(limits, max_flows=most), keys)
        self._clock = ActivityClock()
        self._meter = Meter()
        self._glance = Glance()
        self._rereader = Rereader(self._pipeline)
        self._archive = Archive(self._ageing)
        self._octets = 0
        self._concluded_ns = 0
        self._concluded_frame = 0
        self._next_ns = 0
        self._next_overrun_ns = 0

    @property
    def limits(self) -> Limits:
        """What bounds it."""
        return self._pipeline.limits

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
        back = self._archive.take_back(pipeline.flows)
        if back.shape[0]:
            pipeline.unshelve(back)
            self._rereader.again(back)
        self._meter.read(now_ns, pipeline.flows)
        over = is_over(self._ageing, self._clock, pipeline.flows)
        if self._must_conclude(now_ns, over):
            over = self._conclude(now_ns, over)
        is_open = ~over
        _, packets_per_s, octets_per_s = self._meter.rates()
        left = self._archive.by_channel(self._meter.channel)
        return LiveView(
            now_ns,
            pipeline.frames,
            self._octets,
            packets_per_s,
            octets_per_s,
            self._glance.channels(self._meter, self._meter.count_by_channel(is_open), left),
            self._glance.findings(),
            self._meter.connections(is_open),
            self._meter.connections(np.ones_like(is_open)),
            self._archive.connections,
            self._concluded_ns,
        )

    def _must_conclude(self, now_ns: int, over: Mask) -> bool:
        overrun = self._archive.is_overrun(over.shape[0])
        if now_ns < (self._next_overrun_ns if overrun else self._next_ns):
            return False
        if self._archive.may_set_aside(over, self._clock.silent_ns(over.shape[0]), self._pipeline.flows):
            return True
        if self._concluded_frame == self._pipeline.frames:
            return False
        return self._pipeline.late_words or self._rereader.unsaid(self._concluded_frame)

    def _conclude(self, now_ns: int, over: Mask) -> Mask:
        """Conclude anew, and let go of what is past keeping; which of the flows that stay are over."""
        begin = time.thread_time_ns()
        flows = self._pipeline.flows
        looked_at = self._archive.looked_at(len(flows))
        evidence = self._pipeline.evidence(read=self._rereader.reader(exact=False), glance=looked_at)
        numbers = looked_at[np.argsort(flows.state.order[looked_at], kind="stable")]
        result = self._concluded(evidence, numbers, (), glance=True)
        self._glance.take(result, now_ns)
        self._meter.assign(channel_of_flows(result, numbers), numbers, *self._archive.behind())
        silent_ns = self._clock.silent_ns(len(flows))
        if self._archive.may_set_aside(over, silent_ns, flows):
            self._archive.set_aside(result, numbers, over, silent_ns, flows)
            self._pipeline.shelve(self._archive.set_aside_now())
        if self._archive.must_leave(len(flows)):
            leaving = self._archive.leave(result, numbers, silent_ns, flows)
            if leaving.kept.shape[0] < len(flows):
                self._forget(leaving)
                give_back_freed_memory()
                over = over[leaving.kept]
        self._concluded_ns, self._concluded_frame = now_ns, self._pipeline.frames
        spent = time.thread_time_ns() - begin
        self._next_ns = now_ns + max(_SOONEST_NS, spent * SHARE)
        self._next_overrun_ns = now_ns + max(_SOONEST_NS, spent * OVERRUN_SHARE)
        return over

    def _concluded(
        self, evidence: Evidence, numbers: I64, captures: Sequence[CaptureSummary], *, glance: bool
    ) -> AuditResult:
        aged_out = self._archive.aged_out(numbers, evidence.carriers, glance=glance)
        result = conclude(replace(evidence, aged_out=aged_out), self._pipeline.ledger, captures, self._cluster)
        return replace(result, aged_out=self._archive.summary())

    def _forget(self, leaving: Leaving) -> None:
        count = len(self._pipeline.flows)
        self._rereader.keep(leaving.kept, count)
        self._clock.keep(leaving.kept)
        self._meter.keep(leaving.kept)
        self._archive.keep(leaving.kept, count)
        self._pipeline.keep(leaving.kept, leaving.into)

    def result(self, feed: FeedFacts) -> AuditResult:
        """Everything so far, as `analysis.run` gives it; may be asked any number of times."""
        pipeline = self._pipeline
        evidence = pipeline.evidence(read=self._rereader.reader(exact=True))
        book = pipeline.book(0)
        facts = (tuple(feed.interfaces), tuple(feed.damage), tuple(feed.comments))
        capture = CaptureSummary.of(CaptureOrigin(feed.name, feed.format, feed.octets_read, 0, 0, *facts), book)
        result = self._concluded(evidence, pipeline.flows.in_order(), [capture], glance=False)
        inputs = InputSummary(
            (VantagePoint("", (0,), False, ""),),
            names=tuple(dict.fromkeys(feed.names)),
            left_out=LeftOut(pipeline.flows.left_out, pipeline.limits.max_flows, "held at a time", "--max-connections"),
        )
        return replace(result, inputs=inputs)
