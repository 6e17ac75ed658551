"""Connections that are set aside and speak again are read as if nobody had ever looked away."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from analyzer.capture.source import open_capture
from analyzer.report.document import build_document
from analyzer.report.live_view import LiveView
from analyzer.report.schema_document import QUESTIONS, Document, as_document
from analyzer.session import Ageing, LiveSession
from tests.builders import RST, Conversation, chunk, ethernet, ipv4, udp
from tests.capture_builders import Frame, pcap_file
from tests.unit.session.feeding import from_file
from tests.unit.session.test_ageing import ANSWER, BEGIN, REQUEST, SECOND, NoFeed, http, taken

SECRET: Final = b"GET /other HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n\r\n"
WORDS: Final = (REQUEST, SECRET, b"late", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
KINDS: Final = ("half closed", "closed", "reset", "unanswered", "silent", "datagrams")
AGEING: Final = Ageing(
    closed_s=1.0, half_closed_s=1.0, unanswered_s=1.0, tcp_idle_s=5.0, tcp_forget_s=5.0, udp_s=1.0, udp_stream_s=1.0
)


class Talk:
    """A connection that is over, by its ends' word or by their silence, and speaks again nevertheless."""

    def __init__(self, kind: str, number: int) -> None:
        self._kind, self._port = kind, 40000 + number
        self._tcp = http(self._port, 10255 if number % 4 == 3 else 9100)
        self._first = True

    def says(self, word: int) -> list[bytes]:
        """What it says now; the first time, from its beginning to where it ends for the first time."""
        first, self._first = self._first, False
        if self._kind == "datagrams":
            return [self._datagram(word, back=back) for back in (False, True)[: 1 + word % 2]]
        if first:
            return self._opened()
        return taken(self._tcp.send(0, WORDS[word]).send(1, ANSWER))

    def _opened(self) -> list[bytes]:
        match self._kind:
            case "half closed":
                self._tcp.close(1)
            case "closed":
                self._tcp.close(0).close(1)
            case "reset":
                self._tcp.close(1, RST)
            case "unanswered":
                self._tcp = Conversation(sport=self._port, dport=9100, isn=(self._port, self._port * 3)).open()
                return taken(self._tcp)[:1]
        return taken(self._tcp)

    def _datagram(self, word: int, *, back: bool) -> bytes:
        ends = ("10.0.0.2", "10.0.0.1", 53, self._port) if back else ("10.0.0.1", "10.0.0.2", self._port, 53)
        return ethernet(ipv4(udp(bytes(20 + word), ends[2], ends[3]), ends[0], ends[1], 17))


Moments = Sequence[tuple[list[bytes], bool]]
"""What is captured, two seconds after what was before, and whether somebody looks then."""


def drama(kinds: Sequence[str], again: Sequence[tuple[int, int, bool]], seed: int = 0) -> Moments:
    """Connections come one after the other, then some of them speak again: (which, what, whether somebody looks)."""
    talks = [Talk(kind, number) for number, kind in enumerate(kinds)]
    chance = random.Random(seed)
    moments = [(talk.says(0), chance.random() < 0.3) for talk in talks]
    moments += [([], True), ([], True)]
    return [*moments, *((talks[which % len(talks)].says(word), looks) for which, word, looks in again)]


def watched(path: Path, moments: Moments, session: LiveSession) -> tuple[Document, LiveView]:
    """What a session says at the end, and what it showed last."""
    with open_capture(str(path)) as reader:
        (whole,) = list(reader)
        start, now_ns = 0, BEGIN
        for frames, looks in moments:
            part = slice(start, start + len(frames))
            columns = {
                name: getattr(whole, name)[part]
                for name in ("start", "captured_len", "wire_len", "time_ns", "interface", "link_type")
            }
            start, now_ns = part.stop, now_ns + 2 * SECOND
            session.add(replace(whole, **columns, first_frame=1 + part.start))
            if looks:
                session.tick(now_ns)
        view = session.tick(now_ns + 600 * SECOND)
        return as_document(build_document(session.result(reader))), view


def agrees(moments: Moments) -> None:
    """The report is that of the file, and what is shown is what the report says."""
    frames = [
        Frame(octets, BEGIN + 2 * SECOND * (number + 1))
        for number, (several, _) in enumerate(moments)
        for octets in several
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "again.pcap"
        path.write_bytes(pcap_file(frames))
        seen, view = watched(path, moments, LiveSession(ageing=AGEING))
        assert seen == from_file(path)
    told = {row["id"]: (row["verdict"], row["connections"], row["packets"]) for row in seen["channels"]}
    assert {row.id: (row.verdict, row.connections, row.packets) for row in view.channels} == told
    assert {row.id: row.answers for row in view.channels} == {
        row["id"]: {question: row[question] for question in view.channels[0].answers}  # type: ignore[literal-required]
        for row in seen["channels"]
    }
    assert [(f.identity, f.connections) for f in view.findings] == [
        (f["id"], len(f["connections"])) for f in seen["findings"]
    ]


EIGHT: Final = ["half closed"] * 8
AGAIN = st.tuples(st.integers(0, 31), st.integers(0, len(WORDS) - 1), st.booleans())


ALIKE = st.lists(st.sampled_from(KINDS), min_size=1, max_size=3).flatmap(
    lambda some: st.lists(st.sampled_from(some), min_size=4, max_size=24)
)


@settings(max_examples=15, deadline=None)
@given(
    kinds=ALIKE,
    again=st.lists(AGAIN, max_size=12),
    seed=st.integers(0, 1 << 16),
)
@example(kinds=EIGHT, again=[(7, 1, False), (6, 0, True)], seed=0)  # one that was set aside: read, not taken for read
@example(kinds=EIGHT, again=[(0, 1, True)], seed=0)  # one that stands for others, and is no longer like them
def test_what_speaks_again_is_in_the_report_as_if_nobody_had_looked_away(
    kinds: list[str], again: list[tuple[int, int, bool]], seed: int
) -> None:
    agrees(drama(kinds, again, seed))


@settings(max_examples=15, deadline=None)
@given(kinds=ALIKE, again=st.lists(AGAIN, max_size=12), retain=st.integers(0, 2), stand_ins=st.integers(0, 4))
def test_whatever_left_and_speaks_again_the_books_balance(
    kinds: list[str], again: list[tuple[int, int, bool]], retain: int, stand_ins: int
) -> None:
    """What left begins a connection when it speaks; every packet is counted once, with what it was found to be."""
    moments = drama(kinds, again)
    session, frames = LiveSession(ageing=replace(AGEING, retain=retain, stand_ins=stand_ins)), 0
    for number, (several, looks) in enumerate(moments):
        at_ns = BEGIN + 2 * SECOND * (number + 1)
        session.add(chunk(several, first_frame=frames + 1, times_ns=[at_ns] * len(several)))
        frames += len(several)
        if looks:
            session.tick(at_ns)
    view = session.tick(at_ns + 600 * SECOND)

    document = as_document(build_document(session.result(NoFeed())))
    assert document["ledger"]["balanced"]
    assert document["ledger"]["packets_in_flows"] == frames
    gone = document.get("aged_out") or {"packets": 0, "connections": 0}
    assert sum(document["connections"]["data"]["packets"]) + gone["packets"] == frames
    shown = {row.id: (row.verdict, row.connections, row.packets, row.answers) for row in view.channels}
    assert shown == {
        row["id"]: (row["verdict"], row["connections"], row["packets"], {q: row[q] for q in QUESTIONS})  # type: ignore[literal-required]
        for row in document["channels"]
    }
    assert sum(row.packets for row in view.channels) == frames
