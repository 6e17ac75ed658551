"""Which captures are meant, in which order, and what is skipped."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from analyzer.analysis import run
from analyzer.capture import candidates, discovery, members
from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.source import Opening
from analyzer.errors import CaptureFormatError, InputError, PlanewireError
from analyzer.report.document import build_document
from tests.unit.capture.test_several import IN_ORDER, ROTATED, capture, frames_from, opened, read_all, write


def test_one_capture_is_the_capture(tmp_path: Path) -> None:
    write(tmp_path, {"x.pcap": capture(0)})
    whole = opened(tmp_path / "x.pcap")
    assert [row.octets for row in whole.rows] == [frame.octets for frame in frames_from(0)]
    assert whole.places == [("", (0,))]


@pytest.mark.parametrize("how", ["folder", "files", "pattern", "named"])
def test_a_rotated_set_is_one_recording_in_order_of_time(tmp_path: Path, how: str) -> None:
    write(tmp_path, ROTATED)
    arguments: dict[str, list[str | Path | Source]] = {
        "folder": [tmp_path],
        "files": [tmp_path / name for name in ROTATED],
        "pattern": [f"{tmp_path}/x.p*"],
        "named": [Source(str(tmp_path), "cp")],
    }
    whole = opened(*arguments[how], base=tmp_path)
    assert whole.names == IN_ORDER
    assert whole.places == [("cp" if how == "named" else "", (0, 1, 2, 3))]
    times = [frame.octets for begin in (0, 10, 20, 30) for frame in frames_from(begin)]
    assert [row.octets for row in whole.rows] == times


def test_times_decide_and_names_do_not(tmp_path: Path) -> None:
    """A ring buffer (-W) begins anew with its first name."""
    write(tmp_path, {"x.pcap0": capture(30), "x.pcap1": capture(10), "x.pcap2": capture(20)})
    assert opened(tmp_path, base=tmp_path).names == ["x.pcap1", "x.pcap2", "x.pcap0"]


def test_what_is_no_capture_is_named_and_skipped(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"x.pcap": capture(0), "notes.txt": b"hello\n", "deep/empty.pcap": b"", "deep/core": b"\x7fELF" + bytes(60)},
    )
    (tmp_path / "link.pcap").symlink_to(tmp_path / "x.pcap")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "fifo")
    whole = opened(tmp_path, base=tmp_path)
    assert whole.names in (["x.pcap"], ["link.pcap"])
    assert {name for name, _ in whole.skipped} == {"notes.txt", "deep/empty.pcap", "deep/core", "fifo"}
    assert "not a regular file" in dict(whole.skipped)["fifo"]


def test_the_same_file_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path, {"x.pcap": capture(0)})
    whole = opened(tmp_path, tmp_path / "x.pcap", base=tmp_path)
    assert len(whole.rows) == 5
    assert "same file" in whole.skipped[0][1]


def test_a_named_file_that_is_none_is_told_and_costs_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a.pcap": capture(0), "b.pcap": b"no capture"})
    with open_captures([Source(f"{tmp_path}/{n}.pcap") for n in "abc"]) as reader:
        assert len(read_all(reader)) == 5
        assert [(Path(s.name).name, s.named) for s in reader.skipped] == [("b.pcap", True), ("c.pcap", True)]


@pytest.mark.parametrize(
    ("files", "argument", "says"),
    [
        ({}, ".", "no file in it"),
        ({"a": b"no capture"}, ".", "text"),
        ({"a": b"x", "b": b""}, ".", "none of the 2 files"),
        ({"a": b"x"}, "*.pcap", "no file matches"),
        ({"a": b"no capture"}, "a", "text"),
        ({"a": b"x"}, "b", "no such file"),
    ],
)
def test_nothing_to_read(tmp_path: Path, files: dict[str, bytes], argument: str, says: str) -> None:
    write(tmp_path, files)
    with pytest.raises(PlanewireError, match=says) as caught:
        open_captures([Source(str(tmp_path / argument))])
    assert isinstance(caught.value, InputError | CaptureFormatError)
    assert "\n" not in str(caught.value)


def test_a_pipe_beside_files(tmp_path: Path) -> None:
    write(tmp_path, {"x.pcap": capture(0)})
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(capture(10),))
    writer.start()
    stdin = io.BytesIO(capture(20))
    whole = opened(fifo, "-", tmp_path / "x.pcap", opening=Opening(stdin=stdin), base=tmp_path)
    writer.join()
    assert whole.names == ["x.pcap", "fifo", "-"]


def test_an_archive_of_many_recordings_is_read_in_its_own_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest first, and more of them than an archive may be passed over."""
    archive = tmp_path / "nodes.tar"
    letters = [f"{a}{b}" for a in "abcdefgh" for b in "abcde"]
    captures = {f"{name}.pcap": capture(10.0 * (40 - at), 2) for at, name in enumerate(letters)}
    with tarfile.open(archive, "w") as out:
        for name, octets in captures.items():
            member = tarfile.TarInfo(name)
            member.size = len(octets)
            out.addfile(member, io.BytesIO(octets))
    passes: list[int] = []
    restart = members.Archive._restart

    def counted(archive: members.Archive) -> None:
        passes.append(1)
        restart(archive)

    monkeypatch.setattr(members.Archive, "_restart", counted)
    with open_captures([Source(str(archive))]) as reader:
        document = build_document(run(reader))
    assert len(passes) == 1
    assert document["skipped"]["count"] == 0
    # Numbered in order of time all the same.
    assert [one["name"] for one in document["captures"]] == [f"{archive}:{name}.pcap" for name in letters[::-1]]
    assert document["ledger"]["frames"] == 80


def test_files_and_skipped_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (candidates, discovery):
        monkeypatch.setattr(module, "MAX_FILES", 6)
    monkeypatch.setattr(members, "MAX_SKIPPED", 2)
    write(tmp_path, {f"n{i}": b"text" for i in range(5)} | {"x0.pcap": capture(0), "x1.pcap": capture(10)})
    with open_captures([Source(str(tmp_path))]) as reader:
        assert len(read_all(reader)) == 5
        assert (reader.skipped_count, len(reader.skipped)) == (6, 2)
