"""What the ring hands out is what tcpdump writes at the same time, frame for frame; and what goes wrong is said.

Everything is sent once, between two namespaces, and captured in all ways together.
"""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from analyzer.capture.feed import Feed
from analyzer.capture.live import LiveOptions, open_live
from analyzer.capture.source import open_capture
from analyzer.errors import FilterError, InterfaceError
from analyzer.schema import CaptureChunk
from tests.conftest import LAB
from tests.netns import FLUSHED_S, Namespace, inside, namespaces, replay, run, tcpdump, veth, wait_until

pytestmark = pytest.mark.live

Row = tuple[bytes, int, int, str]
"""Octets, length on the wire, link type, interface."""

RECORDING = LAB / "09-anonymous-kubelet.pcap"
ALL = LiveOptions(("veth0",))
ADDRESSES = b"\2\0\0\0\0\2\2\0\0\0\0\1"
TAG_77 = b"\x81\0\0\x4d"
TCP = b"\x45\0\0\x28\0\0\0\0\x40\6\0\0\x0a\0\0\1\x0a\0\0\2" + bytes(20)
WAYS: dict[str, LiveOptions] = {
    "all": ALL,
    "filter": LiveOptions(("veth0",), bpf="tcp port 10250 or vlan"),
    "vlan": LiveOptions(("veth0",), bpf="vlan 77 and tcp"),
    "snaplen": LiveOptions(("veth0",), snaplen=61),
    "any": LiveOptions(("any",)),
    "any, filter and snaplen": LiveOptions(("any",), bpf="tcp or outbound", snaplen=90),
    "several": LiveOptions(("veth0", "lo", "veth1")),
}


def rows_of(chunk: CaptureChunk, names: list[str]) -> list[Row]:
    columns = (chunk.start, chunk.captured_len, chunk.wire_len, chunk.link_type, chunk.interface)
    return [
        (chunk.octets[start : start + length].tobytes(), wire, link, names[row])
        for start, length, wire, link, row in zip(*(column.tolist() for column in columns), strict=True)
    ]


def take(feed: Feed) -> list[Row]:
    """Stop a feed and read it out."""
    rows: list[Row] = []
    feed.stop()
    while not feed.ended:
        if (chunk := feed.poll(0.1)) is not None:
            rows += rows_of(chunk, [interface.name for interface in feed.interfaces])
    return rows


def written(path: Path, name: str) -> list[Row]:
    with open_capture(str(path)) as reader:
        return [row for chunk in reader for row in rows_of(chunk, [name])]


def send(left: Namespace, right: Namespace) -> None:
    """A recording, tags that the card takes off and tags that it does not, runts, large segments, and loopback."""
    replay(left, "veth0", RECORDING, "--topspeed")
    with inside(left), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("veth0", 0))
        for head in (b"\x08\0", TAG_77 + b"\x08\0" + TCP, b"\x88\xa8\0\7" + TAG_77 + b"\x08\0" + TCP, b"\0\4abcd"):
            for length in (0, 40, 1400):
                raw.send(ADDRESSES + head + bytes(length))
        raw.send(ADDRESSES + TAG_77[:2])
    transfer(left, right, "10.77.0.2", 10250)  # segments of up to 64 KiB: nothing between the two cuts them
    transfer(left, right, "10.77.1.2", 8443)
    transfer(right, right, "127.0.0.1", 443)


def transfer(client: Namespace, server: Namespace, address: str, port: int, octets: int = 300_000) -> None:
    with inside(server):
        listening = socket.create_server((address, port))
    with listening:
        thread = threading.Thread(target=lambda: read_all(listening))
        thread.start()
        with inside(client), socket.create_connection((address, port), timeout=5) as connection:
            connection.sendall(bytes(octets))
        thread.join()


def read_all(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        while connection.recv(1 << 20):
            pass


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    with namespaces("a", "b") as (left, right):
        veth(left, right)
        veth(left, right, "veth1", "10.77.1")
        yield left, right


@pytest.fixture(scope="module")
def both(
    pair: tuple[Namespace, Namespace], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[list[Row], list[Row], Feed]]:
    """For each way: what the ring gave, what tcpdump wrote, and the feed."""
    left, right = pair
    folder = tmp_path_factory.mktemp("tcpdump")
    found = {}
    with ExitStack() as stack:
        with inside(right):
            feeds = {way: open_live(options) for way, options in WAYS.items()}
        with ExitStack() as captures:
            for way, options in WAYS.items():
                for name in options.interfaces:
                    snaplen = () if options.snaplen == 262144 else ("-s", str(options.snaplen))
                    path = folder / f"{way}-{name}.pcap"
                    captures.enter_context(tcpdump(right, name, path, *snaplen, options.bpf or "", settle_s=0.0))
            send(left, right)
            time.sleep(FLUSHED_S)
        for way, feed in feeds.items():
            stack.callback(feed.close)
            captured = take(feed)
            wanted = [row for name in WAYS[way].interfaces for row in written(folder / f"{way}-{name}.pcap", name)]
            found[way] = (captured, wanted, feed)
    return found


Both = dict[str, tuple[list[Row], list[Row], Feed]]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_what_tcpdump_writes(both: Both, way: str) -> None:
    captured, wanted, feed = both[way]
    assert len(captured) >= 3
    # What two processors send at the same moment, two rings have in either order.
    assert sorted(captured) == sorted(wanted)
    assert feed.damage == []


def test_frames_are_in_the_order_they_were_sent_in(both: Both) -> None:
    recorded = [row[:2] for row in written(RECORDING, "")]
    assert [row[:2] for row in both["all"][0]][: len(recorded)] == recorded


def test_the_test_sends_what_it_should(both: Both) -> None:
    """Otherwise the comparison above compares less than it seems to."""
    octets = [row[0] for row in both["all"][0]]
    tags = Counter(frame[12:14] for frame in octets)
    assert tags[b"\x81\x00"] >= 3
    assert tags[b"\x88\xa8"] == 3
    assert max(map(len, octets)) > 20000
    assert min(map(len, octets)) < 20
    assert {row[2] for row in both["any"][0]} == {276}
    assert {row[0][10] for row in both["any"][0]} >= {0, 4}
    assert {row[3] for row in both["several"][0]} == {"veth0", "lo", "veth1"}
    assert max(len(row[0]) for row in both["snaplen"][0]) == 61
    assert max(row[1] for row in both["snaplen"][0]) > 20000
    assert all(frame[0][12:16] == b"\x81\x00\x00\x4d" for frame in both["vlan"][0])


def test_nothing_is_lost_and_everything_is_counted(both: Both) -> None:
    for way, (captured, _, feed) in both.items():
        statistics = feed.statistics()
        assert (statistics.received, statistics.dropped) == (len(captured), 0), way
        assert sum(interface.received or 0 for interface in feed.interfaces) == len(captured)


def test_times_are_those_of_the_clock_and_ascend_in_a_chunk(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    with inside(right):
        feed = open_live(LiveOptions(("veth0", "lo")))
    begin = time.time_ns()
    transfer(left, right, "10.77.0.2", 9000)
    transfer(right, right, "127.0.0.1", 9000)
    end = time.time_ns()
    feed.stop()
    times: list[int] = []
    while not feed.ended:
        if (chunk := feed.poll(0.1)) is not None:
            assert chunk.time_ns.tolist() == sorted(chunk.time_ns.tolist())
            times += chunk.time_ns.tolist()
    assert begin - 10**7 < min(times) <= max(times) < end + 10**9
    assert any(time_ns % 1000 for time_ns in times)  # nanoseconds, not microseconds
    feed.close()


def test_what_is_lost_is_counted_exactly(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    loops = 20
    with open_capture(str(RECORDING)) as reader:
        sent = loops * sum(len(chunk) for chunk in reader)
    with inside(right):
        feed = open_live(LiveOptions(("veth0",), buffer_octets=1 << 18))
    replay(left, "veth0", RECORDING, "--topspeed", "--loop", str(loops))
    rows = take(feed)
    statistics = feed.statistics()
    assert statistics.dropped is not None
    assert statistics.dropped > sent // 4
    assert statistics.interfaces[0].freezes > 0
    assert statistics.received == sent
    assert len(rows) + statistics.dropped == sent
    assert (feed.interfaces[0].received, feed.interfaces[0].dropped) == (sent, statistics.dropped)
    feed.close()


def test_frames_are_handed_out_soon_while_it_is_quiet(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    with inside(right):
        feed = open_live(ALL)
    assert feed.poll(0.05) is None
    with inside(left), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("veth0", 0))
        raw.send(bytes(60))
    chunk = feed.poll(2.0)
    assert chunk is not None
    assert len(chunk) == 1
    assert 0 < feed.statistics().lag_ns < 900_000_000
    # What was handed out outlives the feed.
    feed.close()
    del feed
    gc.collect()
    assert rows_of(chunk, ["veth0"]) == [(bytes(60), 60, 1, "veth0")]


def until(feed: Feed, what: Callable[[], bool]) -> list[Row]:
    rows: list[Row] = []

    def polled() -> bool:
        if (chunk := feed.poll(0.05)) is not None:
            rows.extend(rows_of(chunk, [interface.name for interface in feed.interfaces]))
        return what()

    wait_until(polled)
    return rows


def test_an_interface_that_disappears_ends_the_feed_and_keeps_what_was_captured() -> None:
    with namespaces("c", "d") as (left, right):
        veth(left, right)
        veth(left, right, "veth1", "10.77.1")
        with inside(right):
            one, two = open_live(ALL), open_live(LiveOptions(("veth0", "veth1")))
        transfer(left, right, "10.77.0.2", 80)
        run("ip", "-n", right.name, "link", "delete", "veth0")
        frames = len(until(one, lambda: one.ended))
        assert frames > 10
        assert one.poll(0.0) is None
        (damage,) = one.damage
        assert damage.reason == (
            f"interface veth0 disappeared; what was captured until then is kept, after frame {frames}"
        )
        # The other interface goes on.
        until(two, lambda: len(two.damage) == 1)
        assert not two.ended
        transfer(left, right, "10.77.1.2", 80)
        assert {row[3] for row in take(two)} == {"veth1"}
        one.close()
        two.close()


def test_an_interface_that_goes_down_is_captured_on_again_when_it_is_up() -> None:
    with namespaces("e", "f") as (left, right):
        veth(left, right)
        with inside(right):
            feed = open_live(ALL)
        right.ip("link", "set", "veth0", "down")
        until(feed, lambda: len(feed.damage) == 1)
        assert "went down" in feed.damage[0].reason
        right.ip("link", "set", "veth0", "up")
        right.ip("address", "replace", "10.77.0.2/24", "dev", "veth0")
        transfer(left, right, "10.77.0.2", 80)
        assert len(take(feed)) > 10
        assert not any("disappeared" in damage.reason for damage in feed.damage)
        feed.close()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (LiveOptions(("eth9",)), InterfaceError, r"^eth9: no such interface; there are: lo, .*veth0.*, any$"),
        (LiveOptions(("veth0", "x" * 40)), InterfaceError, r"^x+: no such interface"),
        (LiveOptions(("veth0", "any")), InterfaceError, r"^any: stands for all"),
        (LiveOptions(("down0",)), InterfaceError, r"^down0: is down; bring it up first: ip link set down0 up$"),
        (LiveOptions(("veth0",), bpf="tcp prot 443"), FilterError, r"^filter 'tcp prot 443': .*syntax error"),
        (LiveOptions(("veth0",), buffer_octets=1 << 45), InterfaceError, r"^veth0: .*buffer"),
    ],
)
def test_what_cannot_be_captured_is_one_clear_line(
    pair: tuple[Namespace, Namespace], options: LiveOptions, error: type[Exception], says: str
) -> None:
    _, right = pair
    right.run("ip", "link", "add", "down0", "type", "veth", "peer", "name", "down1", check=False)
    with inside(right), pytest.raises(error, match=says) as caught:
        open_live(options)
    assert str(caught.value).count("\n") == 0


def test_packets_of_an_unfiltered_moment_do_not_get_in(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    stop = threading.Event()

    def flood() -> None:
        with inside(left), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("veth0", 0))
            while not stop.is_set():
                raw.send(bytes(60))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        with inside(right):
            for _ in range(3):
                feed = open_live(LiveOptions(("veth0",), bpf="tcp port 1"))
                assert feed.poll(0.15) is None
                assert feed.statistics().received == 0
                feed.close()
    finally:
        stop.set()
        thread.join()
