"""Several captures as one input: what belongs together, what is skipped, and that no frame is lost or counted twice."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture import several
from analyzer.capture.several import CaptureSet, Source, open_captures
from analyzer.capture.source import Opening
from analyzer.errors import CaptureFormatError, InputError, PlanewireError
from analyzer.schema import CaptureReader
from tests.capture_builders import Frame, enhanced, interface, options, pcap_file, section

SECOND = 10**9
BEGIN = 1_700_000_000 * SECOND


def frames_from(begin_s: float, count: int = 5) -> list[Frame]:
    """Frames a tenth of a second apart, each of other octets."""
    begin = BEGIN + round(begin_s * SECOND)
    return [Frame(b"%d-%d" % (begin, n), begin + n * SECOND // 10) for n in range(count)]


def capture(begin_s: float, count: int = 5) -> bytes:
    return pcap_file(frames_from(begin_s, count))


class Row(NamedTuple):
    """One frame as it came out of the whole."""

    number: int
    capture: int
    vantage: int
    octets: bytes


def read_all(reader: CaptureSet) -> list[Row]:
    found = []
    for chunk in as_protocol(reader):
        for n, (start, length) in enumerate(zip(chunk.start.tolist(), chunk.captured_len.tolist(), strict=True)):
            octets = chunk.octets[start : start + length].tobytes()
            found.append(Row(chunk.first_frame + n, chunk.capture, chunk.vantage, octets))
    return found


def as_protocol(reader: CaptureSet) -> CaptureReader:
    """mypy checks here that the reader is what the pipeline takes."""
    return reader


class Whole(NamedTuple):
    """Everything there is to know of a set that was read."""

    rows: list[Row]
    names: list[str]
    places: list[tuple[str, tuple[int, ...]]]
    skipped: list[tuple[str, str]]


def opened(*paths: str | Path | Source, opening: Opening | None = None, base: Path | None = None) -> Whole:
    """Read a set; names come back relative to `base`."""
    sources = [path if isinstance(path, Source) else Source(str(path)) for path in paths]

    def short(name: str) -> str:
        return name.removeprefix(f"{base}/")

    with open_captures(sources, opening) as reader:
        rows = read_all(reader)
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        for origin, following in zip(reader.origins, [*reader.origins[1:], None], strict=True):
            stop = following.first_number if following else len(rows)
            number = reader.origins.index(origin)
            assert {row.capture for row in rows[origin.first_number : stop]} <= {number}
        assert reader.octets_read == sum(origin.octets for origin in reader.origins)
        return Whole(
            rows,
            [short(origin.name) for origin in reader.origins],
            [(v.name, v.captures) for v in reader.vantages],
            [(short(skip.name), skip.reason) for skip in reader.skipped],
        )


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


ROTATED = {"x.pcap2": capture(20), "x.pcap": capture(0), "x.pcap10": capture(30), "x.pcap1": gzip.compress(capture(10))}
IN_ORDER = ["x.pcap", "x.pcap1", "x.pcap2", "x.pcap10"]


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


@pytest.mark.parametrize("overlap", [0.0, 0.9])
def test_packets_slightly_out_of_order_between_files(tmp_path: Path, overlap: float) -> None:
    write(tmp_path, {"x.pcap": capture(0, 20), "x.pcap1": capture(1.9 - overlap)})
    assert len(opened(tmp_path).places) == 1


def test_what_overlaps_in_time_are_vantage_points(tmp_path: Path) -> None:
    write(tmp_path, {"node1.pcap": capture(0, 100), "node2.pcap": capture(0.5, 100), "node3.pcap": capture(60)})
    whole = opened(tmp_path, base=tmp_path)
    # The third goes on after either: it is taken for the first one's.
    assert whole.names == ["node1.pcap", "node2.pcap", "node3.pcap"]
    assert [captures for _, captures in whole.places] == [(0, 2), (1,)]


def test_other_names_folders_and_interfaces_are_vantage_points(tmp_path: Path) -> None:
    raw = bytearray(capture(40))
    raw[20] = 101  # LINKTYPE_RAW
    write(
        tmp_path,
        {
            "cp/x.pcap": capture(0),
            "node/x.pcap": capture(10),
            "node/other.pcap": capture(20),
            "cp/x.pcap1": bytes(raw),
        },
    )
    whole = opened(tmp_path, base=tmp_path)
    assert whole.names == ["cp/x.pcap", "cp/x.pcap1", "node/x.pcap", "node/other.pcap"]
    assert [captures for _, captures in whole.places] == [(0,), (1,), (2,), (3,)]
    assert len({name for name, _ in whole.places}) == 4


def test_the_user_decides(tmp_path: Path) -> None:
    write(tmp_path, {"a.pcap": capture(0), "b.pcap": capture(10), "c.pcap": capture(20)})
    whole = opened(Source(f"{tmp_path}/[ab].pcap", "cp"), Source(f"{tmp_path}/c.pcap", "node"), base=tmp_path)
    assert whole.places == [("cp", (0, 1)), ("node", (2,))]


def test_interfaces_of_one_node_recorded_at_the_same_time_stay_apart(tmp_path: Path) -> None:
    write(tmp_path, {"eth0.pcap": capture(0, 50), "cni0.pcap": capture(0.05, 50)})
    with open_captures([Source(str(tmp_path), "cp")]) as reader:
        read_all(reader)
        assert [(v.name, v.captures, v.given) for v in reader.vantages] == [("cp", (0,), True), ("cp", (1,), True)]
        assert "overlaps" in reader.vantages[1].assumed


def test_a_capture_without_packets_joins_its_series(tmp_path: Path) -> None:
    write(tmp_path, {"x.pcap": capture(0), "x.pcap1": pcap_file([])})
    whole = opened(tmp_path, base=tmp_path)
    assert whole.names == ["x.pcap", "x.pcap1"]
    assert whole.places == [("", (0, 1))]


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


def test_a_damaged_capture_costs_nothing_of_the_others(tmp_path: Path) -> None:
    write(tmp_path, {"a.pcap": capture(0)[:-3], "b.pcap": capture(10)})
    with open_captures([Source(str(tmp_path))]) as reader:
        assert len(read_all(reader)) == 9
        assert [len(origin.damage) for origin in reader.origins] == [1, 0]


def test_a_named_file_that_is_none_is_told_and_costs_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a.pcap": capture(0), "b.pcap": b"no capture"})
    with open_captures([Source(f"{tmp_path}/{n}.pcap") for n in "abc"]) as reader:
        assert len(read_all(reader)) == 5
        assert [(Path(s.name).name, s.named) for s in reader.skipped] == [("b.pcap", True), ("c.pcap", True)]


def test_a_file_that_vanishes_before_its_turn(tmp_path: Path) -> None:
    write(tmp_path, {"x.pcap": capture(0), "x.pcap1": capture(10)})
    with open_captures([Source(str(tmp_path))]) as reader:
        (tmp_path / "x.pcap1").unlink()
        assert len(read_all(reader)) == 5
        assert [(Path(s.name).name, s.reason) for s in reader.skipped] == [("x.pcap1", "no such file")]


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


def test_frames_interfaces_comments_names_and_secrets_are_numbered_through(tmp_path: Path) -> None:
    def pcapng(tag: bytes) -> bytes:
        name_block = bytes([1, 0, 5 + len(tag), 0]) + bytes([10, 0, 0, 1]) + tag + b"\0" + bytes(-(5 + len(tag)) % 4)
        names = bytes.fromhex("04000000") + (12 + len(name_block)).to_bytes(4, "little") + name_block
        names += (12 + len(name_block)).to_bytes(4, "little")
        log = b"CLIENT_RANDOM " + tag * 32 + b" " + tag * 48 + b"\n"
        body = (0x544C534B).to_bytes(4, "little") + len(log).to_bytes(4, "little") + log + bytes(-len(log) % 4)
        secrets = (10).to_bytes(4, "little") + (12 + len(body)).to_bytes(4, "little") + body
        secrets += (12 + len(body)).to_bytes(4, "little")
        two = interface(opts=options([(2, b"eth0")])) + interface(opts=options([(2, b"if" + tag)]))
        packets = b"".join(
            enhanced(b"p" + tag, BEGIN // 1000 + n, n, opts=options([(1, b"%b%d" % (tag, n))])) for n in (0, 1)
        )
        return section() + two + names + secrets + packets

    write(tmp_path, {"a.pcapng": pcapng(b"aa"), "b.pcapng": pcapng(b"bb")})
    interfaces: list[str] = []
    with open_captures([Source(str(tmp_path))]) as reader:
        for chunk in reader:
            interfaces += [reader.interfaces[row].name for row in chunk.interface.tolist()]
            # What a chunk's frames need is there with the chunk.
            assert len(reader.secrets) == chunk.capture + 1
        assert interfaces == ["eth0", "ifaa", "eth0", "ifbb"]
        assert len(reader.interfaces) == 3
        assert reader.comments == [(1, "aa0"), (2, "aa1"), (3, "bb0"), (4, "bb1")]
        assert [origin.comments for origin in reader.origins] == [((1, "aa0"), (2, "aa1")), ((1, "bb0"), (2, "bb1"))]
        assert reader.names == [("10.0.0.1", "aa"), ("10.0.0.1", "bb")]
        assert [log.split()[1] for log in reader.secrets] == [b"aa" * 32, b"bb" * 32]


@given(cuts=st.lists(st.integers(0, 40), max_size=5), order=st.randoms(use_true_random=False))
def test_a_recording_cut_anywhere_is_the_recording(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], order: Callable[[list[str]], None]
) -> None:
    frames = frames_from(0, 40)
    edges = [0, *sorted(cuts), 40]
    folder = tmp_path_factory.mktemp("rotated")
    names = [f"x.pcap{n}" for n in range(len(edges) - 1)]
    order.shuffle(names)  # type: ignore[attr-defined]
    for name, (start, stop) in zip(names, pairwise(edges), strict=True):
        (folder / name).write_bytes(pcap_file(frames[start:stop]))
    whole = opened(folder)
    assert [row.octets for row in whole.rows] == [frame.octets for frame in frames]
    assert len(whole.places) == 1


# -------------------------------------------------------------------------------------------- archives


def tar(files: dict[str, bytes] | Iterable[tuple[str, bytes]], mode: str = "w:gz") -> bytes:
    target = io.BytesIO()
    pairs = files.items() if isinstance(files, dict) else files
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


RETINA = {
    "capture/node-1-20261125143619.pcap": capture(0),
    "capture/capture-network-metadata.txt": b"ip: 10.0.0.1\n",
    "capture/iptables-rules.txt": b"*filter\n",
}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_archive_is_read_as_it_is(tmp_path: Path, mode: str) -> None:
    write(tmp_path, {"retina.tar.gz": tar(RETINA, mode)})
    whole = opened(tmp_path / "retina.tar.gz", base=tmp_path)
    assert [row.octets for row in whole.rows] == [frame.octets for frame in frames_from(0)]
    assert whole.names == ["retina.tar.gz:capture/node-1-20261125143619.pcap"]
    assert [name.split("/")[-1] for name, _ in whole.skipped] == ["capture-network-metadata.txt", "iptables-rules.txt"]
    assert sorted(os.listdir(tmp_path)) == ["retina.tar.gz"]


def test_an_archive_in_a_pipe(tmp_path: Path) -> None:
    content = tar({**RETINA, "capture/other.pcap.gz": gzip.compress(capture(20))})
    whole = opened("-", opening=Opening(stdin=io.BytesIO(content)))
    assert len(whole.rows) == 10
    assert whole.names == ["-:capture/node-1-20261125143619.pcap", "-:capture/other.pcap.gz"]
    assert len(whole.skipped) == 2


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_captures_of_an_archive_are_put_in_order_of_time(tmp_path: Path, mode: str) -> None:
    write(tmp_path, {"x.tar": tar(ROTATED, mode)})
    whole = opened(tmp_path / "x.tar", base=tmp_path)
    assert whole.names == [f"x.tar:{name}" for name in IN_ORDER]
    assert len(whole.places) == 1


def test_archives_of_two_nodes_and_archives_in_archives(tmp_path: Path) -> None:
    inner = tar({"node2-20261125.pcap": capture(0.05, 20)})
    write(tmp_path, {"a.tgz": tar({"node1-20261125.pcap": capture(0, 20)}), "b.tar": tar({"node2.tgz": inner}, "w")})
    whole = opened(tmp_path, base=tmp_path)
    assert whole.names == ["a.tgz:node1-20261125.pcap", "b.tar:node2.tgz:node2-20261125.pcap"]
    assert len(whole.places) == 2


def test_archives_nested_too_deep_are_skipped(tmp_path: Path) -> None:
    content = capture(0)
    for _ in range(several.MAX_NESTING + 1):
        content = tar({"x": content})
    write(tmp_path, {"x.tar": content})
    with pytest.raises(InputError, match="nested"):
        opened(tmp_path / "x.tar")


def test_names_in_archives_are_no_paths(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    content = tar([("../outside", capture(0)), ("/etc/x.pcap", capture(10)), ("a\0b\x1b[31m.pcap", capture(20))])
    write(tmp_path, {"in/x.tar": content})
    whole = opened(tmp_path / "in" / "x.tar")
    assert len(whole.rows) == 15
    assert not outside.exists()


def test_links_and_devices_in_archives_are_not_followed(tmp_path: Path) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"x{kind!r}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("x.pcap")
        info.size = len(capture(0))
        archive.addfile(info, io.BytesIO(capture(0)))
    write(tmp_path, {"x.tar": target.getvalue()})
    assert opened(tmp_path / "x.tar", base=tmp_path).names == ["x.tar:x.pcap"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("at", [600, 1200, 3000, 4000])
def test_a_cut_or_corrupt_archive_gives_what_comes_before(
    tmp_path: Path, at: int, compress: Callable[[bytes], bytes]
) -> None:
    plain = tar({"a.pcap": capture(0), "b.pcap": capture(10), "c.pcap": capture(20)}, "w")
    content = compress(plain)
    write(
        tmp_path,
        {"cut": content[: len(content) * at // 5000], "bad": compress(plain[:at] + b"\xff" * 900 + plain[at + 900 :])},
    )
    for name in ("cut", "bad"):
        try:
            with open_captures([Source(f"{tmp_path}/{name}")]) as reader:
                rows = read_all(reader)
                told = [s for s in reader.skipped if s.named] + [d for o in reader.origins for d in o.damage]
        except PlanewireError:
            continue  # nothing of it could be read
        assert len(rows) <= 15
        assert told or len(rows) == 15, name


def test_hostile_headers_are_refused_before_they_fill_memory(tmp_path: Path) -> None:
    """An extended header that claims a gigabyte of names, and a file of holes that claims an exabyte."""
    head = tarfile.TarInfo("pax")
    head.type, head.size = tarfile.XHDTYPE, 1 << 30
    content = tar({"a.pcap": capture(0)}, "w")[:1024] + head.tobuf() + bytes(4096)
    write(tmp_path, {"x.tar": content})
    with open_captures([Source(f"{tmp_path}/x.tar")]) as reader:
        assert len(read_all(reader)) == 5
        assert any("claims 1073741824 octets" in skip.reason for skip in reader.skipped)
    sparse = tarfile.TarInfo("holes.pcap")
    sparse.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"%011o\0" % (1 << 32)
    block[124:136] = b"%011o\0" % 512
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:512]))
    write(tmp_path, {"y.tar": bytes(block) + capture(0).ljust(512, b"\0") + tar({"a.pcap": capture(0)}, "w")})
    whole = opened(tmp_path / "y.tar", base=tmp_path)
    assert len(whole.rows) == 5
    assert whole.skipped == [("y.tar:holes.pcap", "a sparse file: unpack the archive to read it")]


def test_files_and_skipped_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "MAX_FILES", 6)
    monkeypatch.setattr(several, "MAX_SKIPPED", 2)
    write(tmp_path, {f"n{i}": b"text" for i in range(5)} | {"x0.pcap": capture(0), "x1.pcap": capture(10)})
    with open_captures([Source(str(tmp_path))]) as reader:
        assert len(read_all(reader)) == 5
        assert (reader.skipped_count, len(reader.skipped)) == (6, 2)


def test_an_archive_far_out_of_order_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "MAX_PASSES", 3)
    write(tmp_path, {"x.tar": tar([(f"x{n}.pcap", capture(100 - n * 10)) for n in range(6)])})
    with open_captures([Source(f"{tmp_path}/x.tar")]) as reader:
        assert len(read_all(reader)) == 15
        assert all("unpack it" in skip.reason for skip in reader.skipped)
        assert reader.skipped_count == 3
