"""The loop over a feed whose thread goes on reading while the loop works, and what is not known of a feed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from analyzer.capture.feed import LiveStatistics
from analyzer.cli.live_display import NoDisplay
from analyzer.cli.live_run import LiveRun, Plan
from analyzer.cli.live_signals import Signals
from analyzer.report.live_schema import EndedBy
from analyzer.report.live_view import LiveView, Moment
from analyzer.schema import CaptureChunk, Damage, Interface
from analyzer.session import LiveSession
from tests.builders import chunk, ethernet, ipv4, tcp

PACKET = ethernet(ipv4(tcp(b"x")))


class FakeFeed:
    """Hands out chunks of one frame each; what else it holds, whoever plays the thread appends."""

    name, format, how = "-", "pcapng", "standard input"
    octets_read = 0

    def __init__(self, chunks: int, dropped: int | None = None) -> None:
        self.interfaces: list[Interface] = []
        self.damage: list[Damage] = []
        self.secrets: list[bytes] = []
        self.names: list[tuple[str, str]] = []
        self.comments: list[tuple[int, str]] = []
        self._chunks = [chunk([PACKET], first_frame=number) for number in range(1, chunks + 1)]
        self._dropped = dropped

    @property
    def ended(self) -> bool:
        return not self._chunks

    def poll(self, timeout_s: float) -> CaptureChunk | None:
        return self._chunks.pop(0) if self._chunks else None

    def statistics(self) -> LiveStatistics:
        return LiveStatistics(None if self._dropped is None else 9, self._dropped, (), 0)

    def stop(self) -> None:
        self._chunks.clear()

    def close(self) -> None:
        pass


class Noting(LiveSession):
    """Notes what it is given; meanwhile the thread reads on."""

    def __init__(self, feed: FakeFeed) -> None:
        super().__init__()
        self._feed = feed
        self.secrets: list[bytes] = []
        self.comments: list[tuple[int, str]] = []
        self._read_meanwhile = [b"second", b"third"]
        self._said_meanwhile = [(2, "second"), (3, "third")]

    def use_secrets(self, key_log: bytes) -> None:
        self.secrets.append(key_log)
        if self._read_meanwhile:
            self._feed.secrets.append(self._read_meanwhile.pop(0))

    def add(self, chunk: CaptureChunk, comments: Sequence[tuple[int, str]] = ()) -> None:
        super().add(chunk, comments)
        self.comments += comments
        if self._said_meanwhile:
            self._feed.comments.append(self._said_meanwhile.pop(0))


class Screen(NoDisplay):
    """Keeps what it was shown."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []

    def show(self, moment: Moment) -> None:
        self.moments.append(moment)


def run(feed: FakeFeed, session: LiveSession) -> tuple[Moment, EndedBy]:
    moment, ended_by, _ = LiveRun(feed, session, Screen(), Signals(), Plan()).run()
    return moment, ended_by


def test_what_is_read_while_something_is_taken_is_taken_next() -> None:
    feed = FakeFeed(4)
    feed.secrets.append(b"first")
    feed.comments.append((1, "first"))
    session = Noting(feed)
    assert run(feed, session)[1] == "end of input"
    assert session.secrets == [b"first", b"second", b"third"]
    assert session.comments == [(1, "first"), (2, "second"), (3, "third")]


def test_a_key_log_behind_the_last_packet_is_taken_too() -> None:
    feed = FakeFeed(1)
    session = Noting(feed)
    session._read_meanwhile = []

    class Late(FakeFeed):
        def poll(self, timeout_s: float) -> CaptureChunk | None:
            found = super().poll(timeout_s)
            if found is None:
                self.secrets = [b"late"]
            return found

    feed.__class__ = Late
    run(feed, session)
    assert session.secrets == [b"late"]


@pytest.mark.parametrize(("dropped", "received"), [(None, None), (0, 9), (3, 9)])
def test_drops_that_nobody_counts_are_not_nought(dropped: int | None, received: int | None) -> None:
    feed = FakeFeed(1, dropped)
    moment, _ = run(feed, LiveSession())
    assert isinstance(moment.view, LiveView)
    assert (moment.health.dropped, moment.health.received) == (dropped, received)
