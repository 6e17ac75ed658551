"""Several captures read as one input: what goes on with what, and that no frame is lost or counted twice."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.several import CaptureSet
from analyzer.capture.source import Opening
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


def test_a_damaged_capture_costs_nothing_of_the_others(tmp_path: Path) -> None:
    write(tmp_path, {"a.pcap": capture(0)[:-3], "b.pcap": capture(10)})
    with open_captures([Source(str(tmp_path))]) as reader:
        assert len(read_all(reader)) == 9
        assert [len(origin.damage) for origin in reader.origins] == [1, 0]


def test_a_file_that_vanishes_before_its_turn(tmp_path: Path) -> None:
    write(tmp_path, {"x.pcap": capture(0), "x.pcap1": capture(10)})
    with open_captures([Source(str(tmp_path))]) as reader:
        (tmp_path / "x.pcap1").unlink()
        assert len(read_all(reader)) == 5
        assert [(Path(s.name).name, s.reason) for s in reader.skipped] == [("x.pcap1", "no such file")]


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
