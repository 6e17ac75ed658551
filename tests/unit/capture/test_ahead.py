from __future__ import annotations

import gzip
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer.capture import source as source_module
from analyzer.capture.ahead import AheadSource
from analyzer.capture.source import open_capture
from analyzer.capture.stream import FileSource
from tests.capture_builders import Frame, pcap_file


class Pieces:
    """A source that hands out given pieces, then ends with a problem."""

    size = None

    def __init__(self, pieces: list[bytes], problem: str = "", pause_s: float = 0.0) -> None:
        self._pieces = list(pieces)
        self._last = problem
        self._pause_s = pause_s
        self.problem = ""
        self.octets_read = 0
        self.closed = False

    def readinto(self, target: memoryview) -> int:
        time.sleep(self._pause_s)
        if not self._pieces:
            self.problem = self._last
            return 0
        piece = self._pieces[0][: len(target)]
        self._pieces[0] = self._pieces[0][len(piece) :]
        if not self._pieces[0]:
            self._pieces.pop(0)
        target[: len(piece)] = piece
        self.octets_read += len(piece)
        return len(piece)

    def waits(self, seconds: float) -> bool:
        return self._pause_s > seconds

    def close(self) -> None:
        self.closed = True


def content(pieces: int, seed: int = 1) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(chance.randrange(1, 5000)) for _ in range(pieces)]


def read_all(source: AheadSource, step: int = 777) -> bytes:
    target, octets = memoryview(bytearray(step)), bytearray()
    while count := source.readinto(target):
        octets += target[:count]
    return bytes(octets)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("direct", [0, 1, 10_000, 1 << 30])
@pytest.mark.parametrize("room", [1, 4096, 1 << 30])
def test_the_octets_are_those_of_the_source(direct: int, room: int) -> None:
    pieces = content(200)

    assert read_all(AheadSource(Pieces(pieces), direct=direct, room=room)) == b"".join(pieces)


def test_it_reads_on_while_nobody_asks_and_no_farther_than_there_is_room() -> None:
    source = Pieces([bytes(1000)] * 10_000)
    ahead = AheadSource(source, direct=0, room=3 << 20)

    assert ahead.readinto(memoryview(bytearray(10))) == 10

    until(lambda: source.octets_read >= 3 << 20)
    time.sleep(0.05)
    assert source.octets_read <= 5 << 20
    ahead.close()


def test_a_problem_comes_behind_the_octets_before_it() -> None:
    source = Pieces([b"abc"], problem="the data are corrupt")
    ahead = AheadSource(source, direct=0)

    assert ahead.readinto(memoryview(bytearray(2))) == 2
    until(lambda: bool(source.problem))
    assert ahead.problem == ""
    assert ahead.readinto(memoryview(bytearray(2))) == 1
    assert ahead.readinto(memoryview(bytearray(2))) == 0
    assert ahead.problem == "the data are corrupt"


def test_an_error_is_raised_to_who_reads() -> None:
    class Failing(Pieces):
        def readinto(self, target: memoryview) -> int:
            raise MemoryError

    with pytest.raises(MemoryError):
        AheadSource(Failing([]), direct=0).readinto(memoryview(bytearray(2)))


def test_it_tells_a_pause_from_an_end() -> None:
    read, write = os.pipe()
    ahead = AheadSource(FileSource(os.fdopen(read, "rb", buffering=0), owned=True), direct=0)
    os.write(write, b"x")
    assert ahead.readinto(memoryview(bytearray(8))) == 1
    assert ahead.waits(0.02)
    os.write(write, b"yz")
    assert not ahead.waits(5)
    assert ahead.readinto(memoryview(bytearray(8))) == 2
    os.close(write)
    assert not ahead.waits(5)
    assert ahead.readinto(memoryview(bytearray(8))) == 0
    ahead.close()


def test_closing_ends_the_thread_and_the_source() -> None:
    before = threading.active_count()
    source = Pieces([bytes(1000)] * 100_000)
    ahead = AheadSource(source, direct=0, room=1 << 20)
    ahead.readinto(memoryview(bytearray(10)))
    assert threading.active_count() == before + 1

    ahead.close()

    assert threading.active_count() == before
    assert source.closed


def test_a_compressed_capture_is_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a reader that takes a thread from the first octet on
    chance = random.Random(3)
    plain = pcap_file([Frame(chance.randbytes(900)) for _ in range(3000)])
    path = tmp_path / "node.pcap.gz"
    path.write_bytes(gzip.compress(plain))
    made: list[AheadSource] = []

    class Eager(AheadSource):
        def __init__(self, source: FileSource) -> None:
            super().__init__(source, direct=0)
            made.append(self)

    monkeypatch.setattr(source_module, "AheadSource", Eager)

    with open_capture(str(path), chunk_octets=100_000) as reader:
        frames = sum(len(chunk) for chunk in reader)
        assert not reader.damage

    assert frames == 3000
    assert made
    assert made[0]._thread is not None
    assert not made[0]._thread.is_alive()
