"""Inputs that are still being made: a followed file and a PCAP-over-IP server, on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.growing import parse_address
from analyzer.capture.source import Opening
from analyzer.errors import InputError
from tests.capture_builders import Frame, pcap_file, pcapng_file

FRAMES = [Frame(b"%d" % n, 1_700_000_000_000_000_000 + n * 1000) for n in range(50)]
Made = Callable[[list[Frame]], bytes]


def counted(path: str, opening: Opening) -> tuple[int, list[str]]:
    with open_captures([Source(path)], opening) as reader:
        frames = sum(len(chunk) for chunk in reader)
        return frames, [damage.reason for damage in reader.damage]


@pytest.mark.parametrize("made", [pcap_file, pcapng_file])
def test_a_file_that_grows_is_read_as_it_grows(tmp_path: Path, made: Made) -> None:
    content = made(FRAMES)
    path = tmp_path / "growing"
    path.write_bytes(content[:10])
    done = threading.Event()
    seen: list[int] = []

    def write() -> None:
        for at in range(10, len(content), 257):
            with path.open("ab") as stream:
                stream.write(content[at : at + 257])
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    with open_captures([Source(str(path))], Opening(follow=True, stopped=done.is_set)) as reader:
        for chunk in reader:
            seen.append(len(chunk))
            if sum(seen) == len(FRAMES):
                done.set()
        assert reader.damage == []
    writer.join()
    assert sum(seen) == len(FRAMES)


def test_without_follow_the_file_ends_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pcap_file(FRAMES))
    assert counted(str(path), Opening()) == (50, [])


def test_a_followed_file_ends_when_it_has_been_idle(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pcap_file(FRAMES)[:-1])
    begin = time.monotonic()
    frames, damage = counted(str(path), Opening(follow=True, idle_s=0.3))
    assert frames == 49
    assert "cut inside frame 50" in damage[0]
    assert 0.3 <= time.monotonic() - begin < 20


def test_a_followed_file_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pcap_file(FRAMES))
    with open_captures([Source(str(path))], Opening(follow=True, idle_s=20)) as reader:
        chunks = iter(reader)
        assert len(next(chunks)) == 50
        path.write_bytes(b"")
        assert list(chunks) == []
        assert "shorter" in reader.damage[0].reason


class Server:
    """Sends what it is given to the first who connects, in pieces, and then does what it is told."""

    def __init__(
        self, content: bytes, *, family: int = socket.AF_INET, hold: bool = False, reset: bool = False
    ) -> None:
        self._socket = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
        self.port: int = self._socket.getsockname()[1]
        self._content, self._hold, self._reset = content, hold, reset
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            for at in range(0, len(self._content), 100):
                connection.sendall(self._content[at : at + 100])
            if self._hold:
                self._ended.wait(20)
            if self._reset:
                time.sleep(0.3)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize("made", [pcap_file, pcapng_file])
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{}", "TCP@127.0.0.1:{}", "tcp://localhost:{}/"])
def test_pcap_over_ip(made: Made, address: str) -> None:
    with Server(made(FRAMES)) as server:
        assert counted(address.format(server.port), Opening()) == (50, [])


def test_pcap_over_ipv6() -> None:
    try:
        server = Server(pcap_file(FRAMES), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with server:
        assert counted(f"tcp://[::1]:{server.port}", Opening())[0] == 50


def test_a_server_that_falls_silent() -> None:
    with Server(pcap_file(FRAMES), hold=True) as server:
        assert counted(f"tcp://127.0.0.1:{server.port}", Opening(idle_s=0.3)) == (50, [])


def test_a_connection_that_breaks() -> None:
    with Server(pcap_file(FRAMES), reset=True) as server:
        frames, damage = counted(f"tcp://127.0.0.1:{server.port}", Opening())
    assert frames == 50
    assert damage == ["the connection failed: Connection reset by peer, after frame 50"]


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError, match="cannot connect"):
        open_captures([Source(f"tcp://127.0.0.1:{port}")])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://host:57012", ("host", 57012)),
        ("TCP@10.0.0.1:1", ("10.0.0.1", 1)),
        ("tcp://[fe80::1]:19000/", ("fe80::1", 19000)),
        ("file.pcap", None),
        ("tcp", None),
    ],
)
def test_addresses(text: str, address: tuple[str, int] | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["tcp://", "tcp://host", "tcp://host:0", "tcp://host:65536", "tcp://:1", "tcp://a:1/x"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError, match="expected tcp://HOST:PORT"):
        parse_address(text)
