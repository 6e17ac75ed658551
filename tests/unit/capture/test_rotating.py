"""A ring of files on a real file system: what is in them, and what is left where writing fails or ends at once."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analyzer.capture.rotating import RotatingWriter
from analyzer.capture.series import series_key
from analyzer.capture.source import open_capture
from analyzer.errors import OutputError
from analyzer.schema import NO_LINK, CaptureChunk, Interface
from tests.capture_builders import Frame, frames_in, pcapng_file, reading

FRAMES = [Frame(bytes([n % 251]) * (40 + n % 90), 1_700_000_000_000_000_000 + n * 1000) for n in range(600)]
ETHERNET = [Interface(1, 262144, "eth0", filter="tcp", system="Linux", received=610, dropped=10)]
Row = tuple[bytes, int, int, int, int]


def write(writer: RotatingWriter, frames: list[Frame], chunk_octets: int = 4096) -> None:
    for chunk in reading(pcapng_file(frames), chunk_octets=chunk_octets):
        writer.add(chunk, ETHERNET)


def read(path: Path) -> list[Row]:
    with open_capture(str(path)) as reader:
        rows = frames_in(reader)
        assert reader.damage == []
        return rows


def test_one_file_holds_all(tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"
    writer = RotatingWriter(str(path), application="planewire test")
    write(writer, FRAMES)
    # What is written is there at once: nothing waits in this process.
    assert read(path) == [frame.row for frame in FRAMES]
    writer.close()
    with open_capture(str(path)) as reader:
        assert frames_in(reader) == [frame.row for frame in FRAMES]
        assert reader.interfaces == ETHERNET
    assert (writer.files, writer.frames, writer.problem) == ([path], len(FRAMES), "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("chunk_octets", [512, 8 << 20])
@pytest.mark.parametrize("limit", [200, 4000, 1 << 20])
def test_files_are_no_longer_than_asked_for(tmp_path: Path, limit: int, chunk_octets: int) -> None:
    writer = RotatingWriter(str(tmp_path / "ring.pcapng"), rotate_octets=limit)
    write(writer, FRAMES, chunk_octets)
    writer.close()
    rows = [read(path) for path in writer.files]
    assert [row for file in rows for row in file] == [frame.row for frame in FRAMES]
    for path, found in zip(writer.files, rows, strict=True):
        assert path.stat().st_size <= limit or len(found) == 1
    assert sorted(tmp_path.iterdir()) == writer.files
    assert {series_key(str(path)) for path in writer.files} == {f"{tmp_path}/ring_#_#.pcapng"}


@pytest.mark.parametrize("limit", [1500, 4000, 10_000])
def test_statistics_of_many_interfaces_have_their_room(tmp_path: Path, limit: int) -> None:
    writer = RotatingWriter(str(tmp_path / "ring.pcapng"), rotate_octets=limit)
    known = [replace(ETHERNET[0], name=f"eth{number}") for number in range(4)]
    for number, chunk in enumerate(reading(pcapng_file(FRAMES), chunk_octets=2048)):
        # They come one after the other, and what is received is told at last.
        told = known[: 1 + number // 3]
        writer.add(chunk, [replace(one, received=None, dropped=None) for one in told[:-1]] + told[-1:])
    writer.add(chunk, known)
    writer.close()
    assert [row[0] for path in writer.files for row in read(path)][: len(FRAMES)] == [frame.octets for frame in FRAMES]
    with open_capture(str(writer.files[-1])) as reader:
        frames_in(reader)
        assert reader.interfaces == known
    assert max(path.stat().st_size for path in writer.files) <= limit


def test_old_files_go_and_files_of_others_stay(tmp_path: Path) -> None:
    mine = tmp_path / "ring.pcapng"
    mine.write_bytes(b"somebody else's")
    writer = RotatingWriter(str(mine), rotate_octets=5000, keep=3)
    write(writer, FRAMES)
    writer.close()
    assert sorted(tmp_path.iterdir()) == sorted([mine, *writer.files])
    assert len(writer.files) == 3
    assert mine.read_bytes() == b"somebody else's"
    kept = [row for path in writer.files for row in read(path)]
    assert kept == [frame.row for frame in FRAMES[-len(kept) :]]
    # A second run beside the first one takes other names.
    again = RotatingWriter(str(mine), rotate_octets=5000, keep=3)
    again.close()
    assert not set(again.files) & set(writer.files)
    assert len(list(tmp_path.iterdir())) == 5


def test_rotation_on_request(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    writer = RotatingWriter(str(path))
    write(writer, FRAMES[:10])
    path.rename(tmp_path / "taken away")
    writer.rotate()
    write(writer, FRAMES[10:30])
    writer.rotate()
    write(writer, FRAMES[30:])
    writer.close()
    assert [len(read(tmp_path / "taken away")), len(read(path)), len(read(writer.files[-1]))] == [10, 20, 570]
    assert writer.files[-1].name.startswith("x_00003_")


def test_interfaces_that_come_later_and_records_that_are_no_packets(tmp_path: Path) -> None:
    writer = RotatingWriter(str(tmp_path / "x.pcapng"))
    write(writer, FRAMES[:2])
    one = np.ones(3, np.int64)
    chunk = CaptureChunk(
        np.frombuffer(b"abc", np.uint8), one - 1, one, one, one, np.array([0, 1, 1], np.int32),
        np.array([1, NO_LINK, 101], np.int32), 3,
    )  # fmt: skip
    writer.add(chunk, [*ETHERNET, Interface(101, 0, "tun0")])
    writer.close()
    assert read(tmp_path / "x.pcapng")[2:] == [(b"a", 1, 1, 0, 1), (b"a", 1, 1, 1, 101)]


def test_where_nothing_can_be_written_it_is_said_at_once(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing" / "x.pcapng"):
        with pytest.raises(OutputError, match=str(place)):
            RotatingWriter(str(place))
    with pytest.raises(OutputError):
        RotatingWriter(str(tmp_path / "missing" / "x.pcapng"), rotate_octets=100)


@contextmanager
def no_file_longer_than(octets: int) -> Iterator[None]:
    """As a full disk does: a write ends in the middle, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("octets", [5000, 5001, 5040, 9000])
def test_where_writing_fails_whole_blocks_are_left(tmp_path: Path, octets: int) -> None:
    writer = RotatingWriter(str(tmp_path / "x.pcapng"))
    with no_file_longer_than(octets):
        write(writer, FRAMES[:300], 2048)
    path = writer.files[0]
    assert writer.problem.count(str(path)) == 1
    assert "\n" not in writer.problem
    found = read(path)
    assert found == [frame.row for frame in FRAMES[: len(found)]]
    assert len(found) == writer.frames
    assert octets - 200 < path.stat().st_size <= octets
    # The rest of the capture goes on without it, until somebody asks for a new file.
    write(writer, FRAMES[300:400])
    writer.rotate()
    assert writer.problem == ""
    write(writer, FRAMES[400:])
    writer.close()
    assert read(writer.files[-1]) == [frame.row for frame in FRAMES[400:]]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_clear_line() -> None:
    writer = RotatingWriter("/dev/full")
    assert writer.problem.startswith("/dev/full: the disk is full: nothing is written after frame 0")
    write(writer, FRAMES)
    writer.close()
