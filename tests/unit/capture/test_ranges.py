"""Reading by ranges against reading from front to back: the same frames, the same damage, whatever the file holds."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.capture import ranges, source
from analyzer.capture.source import FileReader, Opening, open_octets, open_source
from tests.capture_builders import Frame, frames_in, pcap_file, pcap_record

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system makes no copies of processes")


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LEAST_RANGED", 0)
    monkeypatch.setattr(ranges, "RANGE_OCTETS", 32 << 10)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the ranges of each reader ended."""
    places: list[int] = []
    close = ranges.RangeReader.close

    def noted(self: ranges.RangeReader) -> None:
        places.append(self.position)
        close(self)

    monkeypatch.setattr(ranges.RangeReader, "close", noted)
    return places


def open_ranged(path: Path, workers: int) -> FileReader:
    opening = Opening(workers=workers)
    found = open_source(str(path), open_octets(str(path), opening), opening)
    assert isinstance(found, FileReader)
    return found


def frames(count: int, longest: int = 1500, seed: int = 1) -> list[Frame]:
    chance = random.Random(seed)
    begin = 1_700_000_000_000_000_000
    return [
        Frame(chance.randbytes(chance.randrange(0, longest)), begin + i * 1_000_000, chance.choice([None, 70_000]))
        for i in range(count)
    ]


def assert_same(path: Path, workers: int) -> None:
    with open_ranged(path, 1) as plain, open_ranged(path, workers) as ranged:
        assert frames_in(ranged) == frames_in(plain)
        assert ranged.damage == plain.damage
        assert ranged.octets_read == plain.octets_read


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
    assert len(ended) == 1


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


def test_times_that_jump(tmp_path: Path) -> None:
    path = tmp_path / "jumps.pcap"
    late = [replace(frame, time_ns=frame.time_ns + 10**18) for frame in frames(300)]
    path.write_bytes(pcap_file([*frames(300), *late, *frames(300)]))

    assert_same(path, 3)


def test_a_killed_child_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: list[int]) -> None:
    path = tmp_path / "big.pcap"
    path.write_bytes(pcap_file(frames(1500)))
    serve = ranges.RangeReader._serve

    def fatal(self: ranges.RangeReader, offset: int, place: int, seconds: int) -> tuple[int, int, int, int]:
        if offset > 300_000:
            os.kill(os.getpid(), signal.SIGKILL)
        return serve(self, offset, place, seconds)

    monkeypatch.setattr(ranges.RangeReader, "_serve", fatal)

    assert_same(path, 3)
    assert 300_000 < ended[0] < path.stat().st_size


def test_stopping_early_leaves_no_child(tmp_path: Path) -> None:
    path = tmp_path / "big.pcap"
    path.write_bytes(pcap_file(frames(1500)))

    with open_ranged(path, 4) as reader:
        next(iter(reader))

    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
