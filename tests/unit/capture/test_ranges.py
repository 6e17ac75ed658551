"""Reading by ranges in a team against reading from front to back: the same frames, whatever the file holds."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.capture import ranges
from analyzer.capture.records import FrameColumns
from analyzer.capture.source import FileReader, Opening, open_octets, open_source
from analyzer.schema import U8, Damage
from analyzer.team import GivenUp, Team
from analyzer.workers import together
from tests.capture_builders import Frame, frames_in, pcap_file, pcap_record

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system makes no copies of processes")


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "TURN_OCTETS", 64 << 10)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the ranges of each reader ended."""
    places: list[int] = []
    read = ranges.RangeReader.__iter__

    def noted(self: ranges.RangeReader) -> Iterator[tuple[U8, FrameColumns]]:
        yield from read(self)
        places.append(self.position)

    monkeypatch.setattr(ranges.RangeReader, "__iter__", noted)
    return places


def opened(path: Path) -> FileReader:
    opening = Opening(chunk_octets=1 << 16)  # files of a test are several chunks long
    found = open_source(str(path), open_octets(str(path), opening), opening)
    assert isinstance(found, FileReader)
    return found


Seen = tuple[list[tuple[bytes, int, int, int, int]], list[Damage], int]


def seen(reader: FileReader) -> Seen:
    return frames_in(reader), reader.damage, reader.octets_read


def read_together(path: Path, workers: int) -> list[Seen]:
    """What each process of a team has seen of a file."""

    def read(team: Team) -> Seen:
        with opened(path) as reader:
            reader.team = team
            return seen(reader)

    return together(workers, read, ranges.SHARED_OCTETS)


def frames(count: int, longest: int = 1500, seed: int = 1) -> list[Frame]:
    chance = random.Random(seed)
    begin = 1_700_000_000_000_000_000
    return [
        Frame(chance.randbytes(chance.randrange(0, longest)), begin + i * 1_000_000, chance.choice([None, 70_000]))
        for i in range(count)
    ]


def assert_same(path: Path, workers: int) -> None:
    with opened(path) as plain:
        expected = seen(plain)
    assert read_together(path, workers) == [expected] * workers


@pytest.mark.parametrize("workers", [2, 3, 5])
@pytest.mark.parametrize(("byte_order", "tick_ns"), [("<", 1000), (">", 1)])
def test_the_frames_are_those_of_reading_from_front_to_back(
    tmp_path: Path, ended: list[int], workers: int, byte_order: str, tick_ns: int
) -> None:
    path = tmp_path / "big.pcap"
    path.write_bytes(pcap_file(frames(1500), byte_order, tick_ns=tick_ns))

    assert_same(path, workers)

    assert ended == [path.stat().st_size]  # and not one range was given up


@pytest.mark.parametrize("size", [24, 24 + 15, 32 << 10, (32 << 10) + 24, (64 << 10) + 31])
def test_files_that_end_anywhere(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap_file(frames(300))[:size])

    assert_same(path, 3)


def test_records_larger_than_a_range(tmp_path: Path, ended: list[int]) -> None:
    path = tmp_path / "large.pcap"
    path.write_bytes(pcap_file(frames(12, longest=100_000)))

    assert_same(path, 3)
    assert ended[0] < path.stat().st_size  # no record starts in some range


def test_a_capture_inside_a_capture_misleads_nobody(tmp_path: Path, ended: list[int]) -> None:
    # Given a frame, over the beginning of a range, that holds records as plausible as the true ones
    inside = b"".join(pcap_record(frame) for frame in frames(40, longest=100))
    path = tmp_path / "nested.pcap"
    outer = frames(200, longest=300)
    path.write_bytes(pcap_file([*outer, Frame(inside * 20, outer[-1].time_ns), *outer]))

    assert_same(path, 3)
    assert ended[0] < path.stat().st_size  # the guess was wrong, and was found out


def test_a_corrupt_record_is_named_where_it_is(tmp_path: Path) -> None:
    octets = bytearray(pcap_file(frames(400)))
    records = pcap_file(frames(250))
    octets[len(records) + 8 : len(records) + 12] = b"\xff\xff\xff\x7f"
    path = tmp_path / "corrupt.pcap"
    path.write_bytes(octets)

    assert_same(path, 3)
    with opened(path) as reader:
        _, damage, octets_read = seen(reader)
    assert [one.offset for one in damage] == [octets_read] == [len(records)]


def test_times_that_jump(tmp_path: Path) -> None:
    path = tmp_path / "jumps.pcap"
    late = [replace(frame, time_ns=frame.time_ns + 10**18) for frame in frames(300)]
    path.write_bytes(pcap_file([*frames(300), *late, *frames(300)]))

    assert_same(path, 3)


def test_a_range_that_cannot_be_read_is_left_to_the_plain_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: list[int]
) -> None:
    # Given a process that cannot read what comes behind
    path = tmp_path / "big.pcap"
    path.write_bytes(pcap_file(frames(1500)))
    parent, preadv = os.getpid(), os.preadv

    def failing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if offset > 300_000 and os.getpid() != parent:
            raise OSError
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)

    assert_same(path, 3)
    assert 300_000 < ended[0] < path.stat().st_size


def test_several_files_one_after_the_other(tmp_path: Path, ended: list[int]) -> None:
    # Given files of which the second one ends its ranges early, with others read ahead
    octets = bytearray(pcap_file(frames(1500, seed=2)))
    corrupt = len(pcap_file(frames(250, seed=2))) + 8
    octets[corrupt : corrupt + 4] = b"\xff\xff\xff\x7f"
    paths = []
    for number, content in enumerate((pcap_file(frames(700)), bytes(octets), pcap_file(frames(900, seed=3)))):
        paths.append(tmp_path / f"{number}.pcap")
        paths[-1].write_bytes(content)

    def read(team: Team | None) -> list[Seen]:
        found = []
        for path in paths:
            with opened(path) as reader:
                reader.team = team
                found.append(seen(reader))
        return found

    assert together(3, read, ranges.SHARED_OCTETS) == [read(None)] * 3
    assert len(ended) == 3
    assert ended[1] < paths[1].stat().st_size


@pytest.mark.parametrize("victim", [1, 2])
def test_a_killed_process_ends_the_team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: int) -> None:
    path = tmp_path / "big.pcap"
    path.write_bytes(pcap_file(frames(1500)))
    walk = ranges.RangeReader._walk

    def fatal(self: ranges.RangeReader, number: int) -> tuple[int, int, int, int]:
        if number > 10 and self._team.rank == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return walk(self, number)

    monkeypatch.setattr(ranges.RangeReader, "_walk", fatal)

    with pytest.raises(GivenUp):
        read_together(path, 3)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
