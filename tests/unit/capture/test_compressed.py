"""Compressed inputs: whole, several members, cut, corrupt, hostile."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import lzma
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from analyzer.capture import compressed
from analyzer.errors import CaptureFormatError
from tests.capture_builders import Frame, Trickle, frames_in, pcap_file, pcapng_file, reading, rows

RNG = np.random.default_rng(7)
FRAMES = [Frame(RNG.bytes(int(length)), n * 1000) for n, length in enumerate(RNG.integers(0, 300, 300))]
PLAIN = pcap_file(FRAMES)


def _zstd(octets: bytes) -> bytes:
    compressor = importlib.import_module("zstandard").ZstdCompressor(write_checksum=True)
    return bytes(compressor.compress(octets))


def _lz4(octets: bytes) -> bytes:
    return bytes(importlib.import_module("lz4.frame").compress(octets, content_checksum=True))


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": _zstd,
    "lz4": _lz4,
}
PACKAGES = {"zst": "zstandard", "lz4": "lz4"}
needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in PACKAGES.values()),
    reason="the optional packages zstandard and lz4 are not both installed",
)
EACH = pytest.mark.parametrize(
    "suffix", [pytest.param(suffix, marks=[needs_packages] if suffix in PACKAGES else []) for suffix in COMPRESS]
)


@EACH
@pytest.mark.parametrize("chunk_octets", [64, 3000, 8 << 20])
def test_whole(suffix: str, chunk_octets: int) -> None:
    content = COMPRESS[suffix](PLAIN)
    with reading(content, chunk_octets) as reader:
        assert frames_in(reader) == rows(FRAMES)
        assert reader.format == f"pcap.{suffix}"
        assert reader.octets_read == len(content)
        assert reader.damage == []
    with reading(COMPRESS[suffix](pcapng_file(FRAMES))) as reader:
        assert frames_in(reader) == rows(FRAMES)
        assert reader.format == f"pcapng.{suffix}"


@EACH
@pytest.mark.parametrize("counts", [[1], [70_000], [3, 1000, 2]])
def test_several_members_at_any_read_size(suffix: str, counts: list[int]) -> None:
    """As pigz, pxz, pzstd, and cat of compressed files write them."""
    compress = COMPRESS[suffix]
    content = compress(PLAIN[:10]) + compress(b"") + compress(PLAIN[10:5000]) + compress(PLAIN[5000:])
    with reading(Trickle(content, counts)) as reader:  # type: ignore[arg-type]
        assert frames_in(reader) == rows(FRAMES)
        assert reader.damage == []


def opens(content: bytes) -> bool:
    try:
        reading(content).close()
    except CaptureFormatError:
        return False
    return True


@EACH
def test_cut(suffix: str) -> None:
    """What was decompressed before the cut is delivered; a cut that hides nothing of the capture is told as well."""
    content = COMPRESS[suffix](PLAIN)
    for cut in [*range(len(content) - 12, len(content)), *range(60, len(content), 997)]:
        if not opens(content[:cut]):
            # The block formats give nothing before the end of the first block.
            with pytest.raises(CaptureFormatError, match="cut short inside its"):
                reading(content[:cut])
            continue
        with reading(content[:cut]) as reader:
            found = frames_in(reader)
            assert found == rows(FRAMES[: len(found)])
            (damage,) = reader.damage
            assert "cut short inside its" in damage.reason


def test_a_cut_gzip_gives_all_that_zlib_gives() -> None:
    content = gzip.compress(PLAIN)
    for cut in range(400, len(content), 1500):
        octets = zlib.decompressobj(31).decompress(content[:cut])
        with reading(content[:cut]) as cut_reader, reading(octets) as plain_reader:
            assert frames_in(cut_reader) == frames_in(plain_reader)


def test_a_cut_gzip_of_runs_gives_all_that_zlib_gives() -> None:
    """Few octets stand for many: zlib holds back output of input that it has taken."""
    content = gzip.compress(pcap_file([Frame(bytes(length)) for length in range(0, 5000, 61)]))
    for cut in range(len(content)):
        octets = zlib.decompressobj(31).decompress(content[:cut])
        if len(octets) < 4:  # nothing to recognise a capture by
            continue
        with reading(content[:cut], 64) as cut_reader, reading(octets) as plain_reader:
            assert frames_in(cut_reader) == frames_in(plain_reader)


@EACH
def test_corrupt(suffix: str) -> None:
    frames = [Frame(RNG.bytes(984)) for _ in range(500)]
    content = bytearray(COMPRESS[suffix](pcap_file(frames)))
    content[-3] ^= 0x55  # in the checksum or the size after the data
    with reading(bytes(content)) as reader:
        found = frames_in(reader)
        lost = {"gz": 0, "zst": 128}.get(suffix, 64)
        assert len(found) >= 500 - lost * 1024 // 1000 - 1
        assert found == rows(frames[: len(found)])
        (damage,) = reader.damage
    assert "data are corrupt" in damage.reason


def test_a_corrupt_gzip_gives_all_before_the_octet_that_zlib_refuses() -> None:
    """Raw deflate blocks with one reserved block type (RFC 1951 3.2.3) between them."""
    head = gzip.compress(b"")[:10]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    sound = deflate.compress(PLAIN) + deflate.flush(zlib.Z_FULL_FLUSH)
    with reading(head + sound + b"\x07" + bytes(500)) as reader:
        assert frames_in(reader) == rows(FRAMES)
        (damage,) = reader.damage
    assert "invalid block type" in damage.reason


@EACH
def test_something_else_behind_it(suffix: str) -> None:
    with reading(COMPRESS[suffix](PLAIN) + b"and then some text") as reader:
        assert frames_in(reader) == rows(FRAMES)
        (damage,) = reader.damage
    assert damage.offset == len(PLAIN)
    assert "what follows" in damage.reason


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_zeros_behind_it_are_padding(suffix: str) -> None:
    with reading(COMPRESS[suffix](PLAIN) + bytes(100_000)) as reader:
        assert frames_in(reader) == rows(FRAMES)
        assert reader.damage == []


@needs_packages
def test_skippable_frames() -> None:
    """Seekable zstd ends with one, pzstd starts with one (RFC 8878 3.1.2)."""
    skippable = b"\x50\x2a\x4d\x18" + (8).to_bytes(4, "little") + bytes(8)
    with reading(skippable + COMPRESS["zst"](PLAIN) + skippable) as reader:
        assert frames_in(reader) == rows(FRAMES)
        assert reader.damage == []


@EACH
def test_a_bomb_stays_small(suffix: str) -> None:
    """64 MiB out of a small file, read in bounded memory."""
    record = Frame(bytes(1 << 20))
    content = COMPRESS[suffix](pcap_file([record] * 64))
    assert len(content) < 1 << 20
    tracemalloc.start()
    try:
        with reading(content, 1 << 20) as reader:
            lengths = [int(chunk.captured_len.sum()) for chunk in reader]
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(lengths) == 64 << 20
    # zstd's binding hands out all that a slice of its input holds.
    assert peak < (96 if suffix == "zst" else 48) << 20


@EACH
def test_twice(suffix: str) -> None:
    with pytest.raises(CaptureFormatError, match="compressed twice, gzip inside"):
        reading(COMPRESS[suffix](gzip.compress(PLAIN)))


@pytest.mark.parametrize(("magic", "package"), [(b"\x28\xb5\x2f\xfd", "zstandard"), (b"\x04\x22\x4d\x18", "lz4")])
def test_a_package_that_is_not_installed(magic: bytes, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(CaptureFormatError, match=f"pip install {package}"):
        reading(magic + bytes(100))


@EACH
def test_the_magic_is_found_in_the_first_octets(suffix: str) -> None:
    for content in (PLAIN, b""):
        found = compressed.recognise(COMPRESS[suffix](content)[: compressed.MAGIC_LEN])
        assert found is not None
        assert found.suffix == suffix


def test_captures_are_not_compressed() -> None:
    assert compressed.recognise(PLAIN[: compressed.MAGIC_LEN]) is None
    assert compressed.recognise(pcapng_file(FRAMES)[: compressed.MAGIC_LEN]) is None
