"""The loop of ``planewire live``: frames in, moments out, until something ends it; then the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from analyzer.cli.live_display import Display, DisplayGone
from analyzer.cli.live_signals import Signals
from analyzer.errors import PlanewireError
from analyzer.report.audit_result import AuditResult
from analyzer.report.live_schema import EndedBy
from analyzer.report.live_view import LiveHealth, Moment
from analyzer.schema import CaptureChunk

if TYPE_CHECKING:
    from analyzer.capture.feed import Feed
    from analyzer.capture.rotating import RotatingWriter
    from analyzer.cli.metrics import MetricsServer
    from analyzer.session import LiveSession

POLL_S: Final = 0.1
"""Longest wait for frames: as late as that a key or a signal is noticed."""
TICK_S: Final = 0.5
"""Between two moments shown."""
SOON_S: Final = 0.1
_TICK_SHARE: Final = 4
"""Moments may take one part in so many of the time."""


class RecordingError(PlanewireError):
    """The packets could not all be written to the file they were to go to."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When a run ends by itself, and how often it writes its files; None = never.

    ``into_pipe``: the packets go to standard output, and the run ends with whoever reads them.
    """

    duration_s: float | None = None
    packets: int | None = None
    interval_s: float | None = None
    into_pipe: bool = False


class LiveRun:
    """One run over a feed that is open.

    Parameters
    ----------
    feed, session, display, signals, plan
    writer : RotatingWriter, optional
    metrics : MetricsServer, optional
    publish : callable, optional
        Writes the files asked for from what is known so far; called every interval.

    Attributes
    ----------
    problem : PlanewireError or None
        What ended the run before its time.
    """

    def __init__(
        self,
        feed: Feed,
        session: LiveSession,
        display: Display,
        signals: Signals,
        plan: Plan,
        *,
        writer: RotatingWriter | None = None,
        metrics: MetricsServer | None = None,
        publish: Callable[[AuditResult], object] | None = None,
    ) -> None:
        self._feed: Final = feed
        self._session: Final = session
        self._display: Final = display
        self._signals: Final = signals
        self._plan: Final = plan
        self._writer = writer
        self._metrics: Final = metrics
        self._publish: Final = publish
        self._began: Final = time.monotonic()
        self._packets = self._secrets = self._comments = 0
        self._lag_s = 0.0
        self._worst_lag_s = 0.0
        self._noted: dict[str, str] = {}
        self.problem: PlanewireError | None = None

    def run(self) -> tuple[Moment, EndedBy, AuditResult]:
        """Run to the end; the last moment, what ended it, and everything for the report."""
        moment = self._moment(first=True)
        ended_by: EndedBy = "error"
        try:
            try:
                self._display.begin(moment.view.time_ns, moment.health)
                ended_by = self._loop(moment)
            except DisplayGone:
                ended_by = self._signals.ended_by or "quit"
            except PlanewireError as error:
                self.problem = error
            moment = self._moment(last=True)
            try:
                self._display.show(moment)
            except DisplayGone:
                ended_by = self._signals.ended_by or "quit"
        finally:
            self._display.leave()
            self._close_writer()
        return moment, ended_by, self._session.result(self._feed)

    # ------------------------------------------------------------------------------------------- loop

    def _loop(self, moment: Moment) -> EndedBy:
        next_tick = time.monotonic()
        interval = self._plan.interval_s
        next_report = self._began + interval if interval is not None else None
        ended_by: EndedBy | None = None
        shown, calm = 0, True
        while True:
            now = time.monotonic()
            if now >= next_tick:
                begun, moment = now, self._moment()
                self._display.show(moment)
                now = time.monotonic()
                next_tick = begun + max(TICK_S, _TICK_SHARE * (now - begun))
                shown, calm = self._packets, self._packets == shown
            if next_report is not None and interval is not None and now >= next_report:
                self._report()
                next_report = max(next_report + interval, time.monotonic())
            if self._attend(moment):
                ended_by = ended_by or "quit"
            ended_by = ended_by or self._signals.ended_by or self._over(now)
            if ended_by is not None:
                # What was captured until now is still taken.
                self._feed.stop()
            chunk = self._feed.poll(min(POLL_S, max(0.0, next_tick - now)))
            self._use_secrets()
            if chunk is not None and (ends := self._take(chunk)) is not None:
                return ends
            if chunk is not None and calm:
                # After a silence the first packets are shown soon, whenever the next moment would have been.
                next_tick, calm = min(next_tick, time.monotonic() + SOON_S), False
            if chunk is None and self._feed.ended:
                return ended_by or "end of input"
            if self._metrics is not None:
                self._metrics.beat()

    def _over(self, now: float) -> EndedBy | None:
        limit = self._plan.duration_s
        return "duration" if limit is not None and now - self._began >= limit else None

    def _take(self, chunk: CaptureChunk) -> EndedBy | None:
        """Take a chunk; what ends the run with it, if something does."""
        wanted = self._plan.packets
        if wanted is not None and self._packets + len(chunk) > wanted:
            chunk = chunk.take(slice(wanted - self._packets))
        said = self._feed.comments[self._comments :]
        self._comments += len(said)
        self._session.add(chunk, said)
        self._packets += len(chunk)
        if self._writer is not None:
            self._writer.add(chunk, self._feed.interfaces)
        newest = int(chunk.time_ns[-1]) if len(chunk) else 0
        if newest > 0:
            self._worst_lag_s = max(self._worst_lag_s, (time.time_ns() - newest) / 1e9)
        if self._plan.into_pipe and self._writer is not None and self._writer.problem:
            return "quit"  # whoever read the packets went away
        return "packets" if wanted is not None and self._packets >= wanted else None

    def _use_secrets(self) -> None:
        # The thread that reads appends meanwhile: what was taken is counted, not what is there afterwards.
        secrets = self._feed.secrets[self._secrets :]
        self._secrets += len(secrets)
        for key_log in secrets:
            self._session.use_secrets(key_log)

    def _attend(self, moment: Moment) -> bool:
        """Do what signals and keys ask for; True where that is to end."""
        signals = self._signals
        if signals.rotate:
            signals.rotate = False
            if self._writer is not None:
                self._feed.statistics()
                self._writer.rotate()
        if signals.suspend:
            self._display.suspend()
            signals.stop_here()
            signals.resized = True
        if signals.resized:
            signals.resized = False
            self._display.resume(moment)
        return self._display.attend(moment)

    def _report(self) -> None:
        """Write the files; one that cannot be written now may be the next time."""
        try:
            if self._publish is not None:
                self._publish(self._session.result(self._feed))
            self._noted.pop("report", None)
        except PlanewireError as error:
            if self._noted.get("report") != str(error):
                self._noted["report"] = str(error)
                self._display.note(time.time_ns(), str(error))

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        # Its last block tells what the kernel dropped.
        self._feed.statistics()
        writer.close()
        if writer.problem and self.problem is None and not self._plan.into_pipe:
            self.problem = RecordingError(writer.problem)

    def _problem(self) -> str:
        """What is wrong at present; whatever is new is told."""
        damage = self._feed.damage[-1].reason if self._feed.damage else ""
        writing = self._writer.problem if self._writer is not None else ""
        for kind, text in (("damage", damage), ("writing", "" if self._plan.into_pipe else writing)):
            if text and self._noted.get(kind) != text:
                self._noted[kind] = text
                self._display.note(time.time_ns(), text)
        return writing or self._noted.get("report", "") or damage

    def _moment(self, *, first: bool = False, last: bool = False) -> Moment:
        if self._worst_lag_s > 0 or last:
            self._lag_s, self._worst_lag_s = self._worst_lag_s or self._lag_s, 0.0
        statistics = self._feed.statistics()
        view = self._session.tick(time.time_ns())
        health = LiveHealth(
            self._feed.name,
            self._feed.how,
            time.monotonic() - self._began,
            statistics.received,
            statistics.dropped,
            self._lag_s,
            str(self._writer.files[-1]) if self._writer is not None and self._writer.files else "",
            # The first is not shown yet: nothing comes before the beginning.
            "" if first else self._problem(),
        )
        moment = Moment(view, health)
        if self._metrics is not None:
            self._metrics.collector.take(moment)
        return moment
