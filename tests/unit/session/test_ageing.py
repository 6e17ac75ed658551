"""When connections are over, by the times of the capture; and that those that merely went silent are not forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from analyzer.capture.source import open_capture
from analyzer.report.document import build_document
from analyzer.report.live_view import LiveView
from analyzer.report.schema_document import Document, as_document
from analyzer.schema import Damage, Interface
from analyzer.session import Ageing, LiveSession
from tests.builders import RST, Conversation, chunk, ethernet, ipv4, udp
from tests.conftest import lab_captures

SECOND = 1_000_000_000
HOUR = 3600.0
BEGIN = 1_700_000_000 * SECOND
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass
class NoFeed:
    """What a report says of the input."""

    name: str = "test"
    format: str = "live"
    interfaces: list[Interface] = field(default_factory=lambda: [Interface(1, 0)])
    damage: list[Damage] = field(default_factory=list)
    names: list[tuple[str, str]] = field(default_factory=list)
    comments: list[tuple[int, str]] = field(default_factory=list)
    octets_read: int = 0


class Watched:
    """A session with a clock: frames are fed at a time, and looked at."""

    def __init__(self, **ageing: float) -> None:
        self.session = LiveSession(ageing=Ageing(**ageing))  # type: ignore[arg-type]
        self.frames = 0

    def feed(self, frames: list[bytes], at_s: float, *, claimed_s: float | None = None) -> LiveView:
        times = [BEGIN + int((at_s if claimed_s is None else claimed_s) * SECOND)] * len(frames)
        self.session.add(chunk(frames, first_frame=self.frames + 1, times_ns=times))
        self.frames += len(frames)
        return self.look(at_s)

    def look(self, at_s: float) -> LiveView:
        return self.session.tick(BEGIN + int(at_s * SECOND))

    def report(self) -> Document:
        return as_document(build_document(self.session.result(NoFeed())))


def http(sport: int = 40000, dport: int = 9100) -> Conversation:
    return Conversation(sport=sport, dport=dport, isn=(sport * 7, sport * 11)).open().send(0, REQUEST).send(1, ANSWER)


def taken(conversation: Conversation) -> list[bytes]:
    """Its frames since this was last asked."""
    frames, conversation.frames = conversation.frames, []
    return frames


def datagram(*, back: bool = False) -> bytes:
    ends = ("10.0.0.2", "10.0.0.1", 53, 40000) if back else ("10.0.0.1", "10.0.0.2", 40000, 53)
    return ethernet(ipv4(udp(bytes(20), ends[2], ends[3]), ends[0], ends[1], 17))


OPENED = Conversation().open()
CASES = [
    pytest.param(http().close(0).close(1).frames, 10, id="closed by both"),
    pytest.param(http().close(1, RST).frames, 10, id="reset"),
    pytest.param(http().close(0).frames, 120, id="half closed"),
    pytest.param(OPENED.frames[:1], 120, id="a SYN without answer"),
    pytest.param(http().frames, 7440, id="silent"),
    pytest.param(OPENED.frames, 7440, id="opened and silent"),
    pytest.param([datagram()], 30, id="a datagram"),
    pytest.param([datagram(), datagram(back=True)], 30, id="question and answer"),
    pytest.param([ethernet(ipv4(bytes(40), protocol=50))], 600, id="ESP"),
]


@pytest.mark.parametrize(("frames", "patience_s"), CASES)
def test_a_connection_is_open_until_its_time_is_over(frames: list[bytes], patience_s: int) -> None:
    watched = Watched()
    watched.feed(frames, 0)

    assert watched.look(patience_s - 1).open_connections == 1
    assert watched.look(patience_s + 2).open_connections == 0
    assert watched.look(patience_s + 3).retained_connections == 1


def test_a_stream_of_datagrams_is_given_longer() -> None:
    watched = Watched()
    watched.feed([datagram()], 0)
    watched.feed([datagram(back=True)], 5)

    assert watched.look(124).open_connections == 1
    assert watched.look(127).open_connections == 0


def test_what_speaks_again_is_open_again() -> None:
    watched = Watched()
    talk = http()
    watched.feed(taken(talk), 0)
    assert watched.look(3 * HOUR).open_connections == 0

    view = watched.feed(taken(talk.send(0, REQUEST)), 3 * HOUR + 1)

    assert (view.open_connections, view.retained_connections) == (1, 1)


def test_every_age_can_be_set() -> None:
    watched = Watched(tcp_idle_s=5.0)
    watched.feed(http().frames, 0)

    assert watched.look(4).open_connections == 1
    assert watched.look(7).open_connections == 0


def come_and_go(watched: Watched, begin_s: float, hours: int) -> None:
    """Connections that end, five each hour."""
    for hour in range(hours):
        talks = [http(sport=41000 + hour * 5 + number).close(0).close(1) for number in range(5)]
        watched.feed([frame for talk in talks for frame in talk.frames], begin_s + hour * HOUR)


def test_tcp_that_fell_silent_keeps_its_verdict_while_others_come_and_go() -> None:
    """Days without a packet, and then a request: it is the connection that was opened at the beginning."""
    watched = Watched(retain=10)
    silent = Conversation(sport=55555, dport=9100).open().send(0, REQUEST).send(1, ANSWER)
    watched.feed(taken(silent), 0)
    come_and_go(watched, 60, 48)
    assert watched.look(48 * HOUR).aged_out > 180

    watched.feed(taken(silent.send(0, REQUEST)), 49 * HOUR)

    data = watched.report()["connections"]["data"]
    (row,) = [i for i, port in enumerate(data["client_port"]) if port == 55555]
    assert (data["protocol"][row], data["encryption"][row], data["initiator"][row]) == ("http/1", "cleartext", "SYN")
    assert (data["first_frame"][row], data["packets"][row], data["mid_connection"][row]) == (1, 6, False)


def test_after_five_days_of_silence_it_may_leave() -> None:
    """As one of a kind it stays for good; the fourth of its kind does not."""
    watched = Watched(retain=0)
    for number in range(5):
        watched.feed(http(sport=50000 + number).frames, number)
    watched.look(4 * 24 * HOUR)
    assert watched.look(4 * 24 * HOUR + 60).retained_connections == 5

    watched.look(6 * 24 * HOUR)
    view = watched.look(6 * 24 * HOUR + 60)

    assert (view.retained_connections, view.aged_out) == (3, 2)
    assert sum(channel.connections for channel in view.channels) == 5


def test_one_packet_with_a_wrong_time_ends_nothing_and_lives_no_longer() -> None:
    watched = Watched()
    watched.feed(http().frames, 0)
    stray = Conversation(sport=40001).open().close(1, RST)
    mixed = [*http(sport=40002).frames, *http(sport=40003).frames]
    times = [BEGIN + SECOND] * len(mixed) + [BEGIN + 10**18] * len(stray.frames)
    watched.session.add(chunk([*mixed, *stray.frames], first_frame=watched.frames + 1, times_ns=times))
    watched.frames += len(times)

    assert watched.look(2).open_connections == 4
    assert watched.feed(http(sport=40004).frames, 14).open_connections == 4


def test_frames_without_times_age_by_the_wall_clock() -> None:
    watched = Watched()
    watched.session.add(chunk(http().close(1, RST).frames, times_ns=[0] * 6))
    watched.look(0)
    assert watched.look(1).open_connections == 1

    assert watched.look(30).open_connections == 0


def test_a_port_used_again_is_another_connection_and_both_are_counted() -> None:
    watched = Watched(retain=0)
    for turn in range(6):
        again = Conversation(sport=40000, dport=9100, isn=(100_000_000 * (turn + 1), 7_000_000 * (turn + 1))).open()
        again.send(0, REQUEST).send(1, ANSWER).close(0).close(1)
        watched.feed(again.frames, 60.0 * turn)
    view = watched.look(600)

    assert sum(channel.connections for channel in view.channels) == 6
    assert view.aged_out == 3
    document = watched.report()
    assert sum(document["connections"]["data"]["packets"]) + document["aged_out"]["packets"] == watched.frames
    assert document["ledger"]["balanced"]


def test_a_late_word_of_what_was_forgotten_begins_a_connection_and_the_books_balance() -> None:
    watched = Watched(retain=0)
    talks = [http(sport=40000 + number).close(0).close(1) for number in range(6)]
    for number, talk in enumerate(talks):
        watched.feed(taken(talk), 20.0 * number)
    watched.look(200)
    assert watched.look(260).aged_out == 3

    watched.feed(taken(talks[5].send(1, b"late")), 300)

    document = watched.report()
    assert sum(document["connections"]["data"]["packets"]) + document["aged_out"]["packets"] == watched.frames
    assert document["ledger"]["balanced"]


def test_rates_are_those_of_the_last_seconds() -> None:
    watched = Watched()
    talk = http()
    watched.feed(taken(talk), 0)
    for second in range(1, 8):
        view = watched.feed(taken(talk.send(0, bytes(100 * 1448))), second)

    assert view.packets_per_s == pytest.approx(100)
    (channel,) = view.channels
    assert channel.packets_per_s == pytest.approx(100)
    assert channel.octets_per_s == pytest.approx(view.octets_per_s)
    for second in range(8, 14):
        view = watched.look(second)
    assert (view.packets_per_s, view.channels[0].packets_per_s) == (0, 0)


def test_verdicts_are_concluded_anew_only_when_something_was_said() -> None:
    path = next(path for path in lab_captures() if path.name.startswith("04-node-to-apiserver"))
    ages = dict.fromkeys(("closed_s", "half_closed_s", "unanswered_s", "udp_s", "udp_stream_s"), 1e6)
    session = LiveSession(ageing=Ageing(**ages))  # type: ignore[arg-type]
    with open_capture(str(path)) as reader:
        (whole,) = list(reader)
        session.add(whole)
        first = session.tick(BEGIN)
        assert first.concluded_ns == BEGIN
        # Once more what is already there: retransmissions, which say nothing new of a handshake that was read whole.
        flows = np.array([row for row in range(len(whole)) if row > len(whole) - 3])
        again = replace(
            whole,
            **{
                name: getattr(whole, name)[flows]
                for name in ("start", "captured_len", "wire_len", "time_ns", "interface", "link_type")
            },
            first_frame=len(whole) + 1,
        )
        session.add(again)
        second = session.tick(BEGIN + 5 * SECOND)

    assert second.frames == first.frames + 2
    assert second.concluded_ns == BEGIN
    assert sum(c.packets for c in second.channels) == sum(c.packets for c in first.channels) + 2


def test_a_new_connection_is_judged_with_the_next_look() -> None:
    watched = Watched()
    watched.feed(http().frames, 0)

    view = watched.feed(http(sport=40001, dport=10255).frames, 1)

    assert view.concluded_ns == view.time_ns
    assert "kubelet-readonly" in {channel.id for channel in view.channels}
    assert {f.first_seen_ns for f in view.findings if f.channel == "kubelet-readonly"} == {view.time_ns}


@pytest.mark.parametrize("in_between", [False, True], ids=["nothing", "another connection"])
def test_what_was_set_aside_and_speaks_is_looked_at_again(in_between: bool) -> None:
    """Eight alike are over, five of them set aside; one of these asks for more, and what it asks is a finding.

    Whether verdicts were concluded in the meantime, without what is set aside, makes no difference.
    """
    watched = Watched(closed_s=1.0)
    talks = [http(sport=40000 + number).close(1) for number in range(8)]
    for talk in talks:
        watched.feed(taken(talk), 0)
    before = watched.look(130)
    assert before.open_connections == 0

    if in_between:
        assert watched.feed(http(sport=41000).frames, 135).concluded_ns == BEGIN + 135 * SECOND
    token = b"Authorization: Basic YTpi\r\n"
    watched.feed(taken(talks[-1].send(0, b"GET /other HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n")), 140)
    view = watched.look(141)

    assert view.open_connections == 1 + in_between
    assert "PW104" in {f.code for f in view.findings} - {f.code for f in before.findings}
    assert sum(channel.connections for channel in view.channels) == 8 + in_between
    assert sum(channel.packets for channel in view.channels) == watched.frames
    assert len(watched.report()["connections"]["data"]["packets"]) == 8 + in_between

    view = watched.feed(http(sport=41001, dport=10255).frames, 145)

    assert view.concluded_ns == view.time_ns
    assert sum(channel.connections for channel in view.channels) == 9 + in_between


@pytest.mark.parametrize(
    ("speak", "without"), [pytest.param(1, 0, id="others stand in"), pytest.param(3, 5, id="nobody is left")]
)
def test_a_stand_in_that_speaks_stands_for_no_other(speak: int, without: int) -> None:
    """Eight alike are over and five of them have left; what a stand-in says then, those never said."""
    watched = Watched(retain=0, closed_s=1.0, half_closed_s=1.0)
    talks = [http(sport=40000 + number).close(1) for number in range(8)]
    for number, talk in enumerate(talks):
        watched.feed(taken(talk), number)
    watched.look(30)
    assert watched.look(60).aged_out == 5

    token = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n\r\n"
    watched.feed([frame for talk in talks[:speak] for frame in taken(talk.send(0, token))], 70)
    view = watched.look(100)

    (shown,) = (finding.connections for finding in view.findings if finding.code == "PW104")
    assert shown == speak
    document = watched.report()
    assert document["aged_out"]["connections"] == 5
    assert document["aged_out"]["without_stand_in"] == without
    (row,) = document["channels"]
    assert (row["connections"], row["packets"], row["encryption"]["cleartext"]) == (8, watched.frames, 8)
    assert document["ledger"]["balanced"]
