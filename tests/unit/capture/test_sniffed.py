"""Where there is no ring: the same frames from scapy's sockets, and errors that say what is wrong."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from analyzer.capture import live
from analyzer.capture.feed import Feed
from analyzer.capture.live import LiveOptions, open_live
from analyzer.capture.ring import RingUnavailable
from analyzer.errors import FilterError, InterfaceError
from tests.netns import Namespace, inside, namespaces, veth

pytestmark = pytest.mark.live

FRAMES = [bytes([n]) * (60 + n) for n in range(200)]
TAGGED = bytes(12) + b"\x81\x00\x00\x05\x08\x00" + bytes(46)


@pytest.fixture
def without_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(_: LiveOptions) -> Feed:
        raise RingUnavailable("Protocol not available")

    monkeypatch.setattr(live, "_RingFeed", unavailable)


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    with namespaces("k", "l") as (left, right):
        veth(left, right)
        yield left, right


def octets_of(feed: Feed) -> list[tuple[bytes, int]]:
    rows: list[tuple[bytes, int]] = []
    quiet = 0
    while not feed.ended:
        if quiet > 3:
            feed.stop()
        quiet += 1
        if (chunk := feed.poll(0.1)) is not None:
            quiet = 0
            assert chunk.first_frame == len(rows) + 1
            assert chunk.link_type.tolist() == [1] * len(chunk)
            assert abs(int(chunk.time_ns[0]) - time.time_ns()) < 10**10
            rows += [
                (chunk.octets[start : start + length].tobytes(), wire)
                for start, length, wire in zip(
                    chunk.start.tolist(), chunk.captured_len.tolist(), chunk.wire_len.tolist(), strict=True
                )
            ]
    return rows


def send(space: Namespace) -> None:
    with inside(space), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("veth0", 0))
        for frame in [*FRAMES, TAGGED]:
            raw.send(frame)


@pytest.mark.usefixtures("without_ring")
def test_the_same_frames(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    with inside(right):
        feeds = [open_live(LiveOptions(("veth0",), snaplen=snaplen)) for snaplen in (262144, 70)]
    send(left)
    whole, cut = (octets_of(feed) for feed in feeds)
    assert whole == [(frame, len(frame)) for frame in [*FRAMES, TAGGED]]
    assert cut == [(octets[:70], wire) for octets, wire in whole]
    for feed in feeds:
        assert feed.how == "scapy socket (Protocol not available)"
        statistics = feed.statistics()
        assert (statistics.received, statistics.dropped) == (201, 0)
        feed.close()
        assert feed.interfaces[0].received == 201


@pytest.mark.usefixtures("without_ring")
def test_loopback_is_seen_once_and_a_filter_holds(pair: tuple[Namespace, Namespace]) -> None:
    _, right = pair
    with inside(right):
        feed = open_live(LiveOptions(("lo",), bpf="udp port 9"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in (9, 10, 9):
                sender.sendto(b"hello", ("127.0.0.1", port))
        assert [octets[-5:] for octets, _ in octets_of(feed)] == [b"hello", b"hello"]
    feed.close()


@pytest.mark.usefixtures("without_ring")
@pytest.mark.parametrize(
    ("options", "error"),
    [(LiveOptions(("veth0",), bpf="tcp prot 443"), FilterError), (LiveOptions(("eth9",)), InterfaceError)],
)
def test_what_cannot_be_captured_is_one_line(
    pair: tuple[Namespace, Namespace], options: LiveOptions, error: type[Exception]
) -> None:
    with inside(pair[1]), pytest.raises(error) as caught:
        open_live(options)
    assert str(caught.value).isprintable()
