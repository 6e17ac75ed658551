"""Captures inside tar archives: read as they are, whatever a hostile archive claims."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from analyzer.capture import members
from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.source import Opening
from analyzer.errors import InputError, PlanewireError
from tests.unit.capture.test_several import IN_ORDER, ROTATED, capture, frames_from, opened, read_all, write


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
    for _ in range(members.MAX_NESTING + 1):
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


def test_an_archive_far_out_of_order_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_PASSES", 3)
    write(tmp_path, {"x.tar": tar([(f"x{n}.pcap", capture(100 - n * 10)) for n in range(6)])})
    with open_captures([Source(f"{tmp_path}/x.tar")]) as reader:
        assert len(read_all(reader)) == 15
        assert all("unpack it" in skip.reason for skip in reader.skipped)
        assert reader.skipped_count == 3
