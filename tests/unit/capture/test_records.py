"""The lockstep walk gives what the serial walk gives, whatever its guesses were worth."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture import facts, pcap, pcapng, records
from analyzer.schema import I64, U8
from tests.capture_builders import Frame, enhanced, pcap_header, pcap_record, simple
from tests.conftest import all_lab_captures

PCAP = records.Chain("<", 16, (8,), 16, 1, 1)
PCAPNG = records.Chain("<", 8, (4,), 0, 4, 12)


def plain_walk(octets: bytes, length_of: Callable[[bytes, int], int], header: int) -> tuple[list[int], int]:
    """The definition, without numpy and without the module under test."""
    positions, at = [], 0
    while at + header <= len(octets) and at + length_of(octets, at) <= len(octets):
        positions.append(at)
        at += length_of(octets, at)
    return positions, at


def pcap_length(octets: bytes, at: int) -> int:
    return 16 + int(struct.unpack_from("<I", octets, at + 8)[0])


def block_length(octets: bytes, at: int) -> int:
    return max((int(struct.unpack_from("<I", octets, at + 4)[0]) + 3) & ~3, 12)


def payloads(seed: int, kind: int | None, largest: int, total: int) -> list[bytes]:
    """Octets that look like nothing, like zeros, like text, or like the records of a capture."""
    rng = np.random.default_rng(seed)
    nested = [rng.bytes(int(length) & ~3) for length in rng.integers(0, 90, 40)]
    patterns = [
        rng.bytes(4096),
        bytes(4096),
        b"GET /healthz HTTP/1.1\r\nHost: kubelet\r\n\r\n",
        b"".join(pcap_record(Frame(octets)) for octets in nested),
        b"".join(enhanced(octets) for octets in nested),
    ]
    patterns = [pattern * (largest // len(pattern) + 1) for pattern in patterns]
    lengths = rng.integers(0, largest, max(total // (largest // 2 + 16), 1)).tolist()
    kinds = rng.integers(0, len(patterns), len(lengths)).tolist() if kind is None else [kind] * len(lengths)
    return [patterns[k][:length] for k, length in zip(kinds, lengths, strict=True)]


def pcap_walk(octets: bytes) -> tuple[I64, int]:
    parser = pcap.PcapParser(pcap_header(), "<", pcap.VARIANTS[0xA1B2C3D4])
    return records.walk(PCAP, np.frombuffer(octets, np.uint8), 0, parser._find)


def pcapng_walk(octets: bytes) -> tuple[I64, int]:
    parser = pcapng.PcapngParser(facts.CaptureFacts())
    return records.walk(PCAPNG, np.frombuffer(octets, np.uint8), 0, parser._find)


MIXES = st.tuples(
    st.integers(0, 2**32),
    st.sampled_from([None, 0, 1, 2, 3, 4]),
    st.sampled_from([60, 200, 1500, 20_000]),
    st.sampled_from([150_000, 300_000]),
)


@given(mix=MIXES, cut=st.integers(0, 300), seconds=st.sampled_from([0, 1, 255, 0x65656565, 1_700_000_000]))
def test_pcap_lockstep_is_serial(mix: tuple[int, int | None, int, int], cut: int, seconds: int) -> None:
    stream = b"".join(pcap_record(Frame(octets, seconds * 10**9)) for octets in payloads(*mix))
    stream = stream[: len(stream) - cut]
    expected, end = plain_walk(stream, pcap_length, 16)
    positions, found_end = pcap_walk(stream)
    assert positions.tolist() == expected
    assert found_end == end


@given(mix=MIXES, cut=st.integers(0, 300), simple_ones=st.booleans())
def test_pcapng_lockstep_is_serial(mix: tuple[int, int | None, int, int], cut: int, simple_ones: bool) -> None:
    make = simple if simple_ones else enhanced
    stream = b"".join(make(octets) for octets in payloads(*mix))
    stream = stream[: len(stream) - cut]
    expected, end = plain_walk(stream, block_length, 8)
    positions, found_end = pcapng_walk(stream)
    assert positions.tolist() == expected
    assert found_end == end


@given(
    octets=st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed)),
    starts=st.lists(st.integers(1, 199_000), min_size=16, max_size=60, unique=True),
    largest=st.sampled_from([3, 300, 70_000]),
)
def test_any_guess_gives_the_same(octets: np.random.Generator, starts: list[int], largest: int) -> None:
    """Lane starts anywhere in octets that are not records at all: only speed may depend on them."""
    words = octets.integers(0, largest, 50_000).astype("<u4")
    stream = words.tobytes()

    def find(_octets: U8, _begin: int, _stride: int, _lanes: int) -> I64:
        return np.array(sorted(starts), np.int64)

    expected, end = plain_walk(stream, pcap_length, 16)
    positions, found_end = records.walk(PCAP, np.frombuffer(stream, np.uint8), 0, find)
    assert positions.tolist() == expected
    assert found_end == end


LARGE = [path for path in all_lab_captures() if path.stat().st_size > 200_000]


@pytest.mark.parametrize("path", LARGE, ids=lambda path: path.name)
def test_lab_captures(path: Path) -> None:
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    if content.startswith(b"\x0a\x0d\x0d\x0a"):
        walk_all, length_of, header = pcapng_walk, block_length, 8
    else:
        content = content[24:]
        walk_all, length_of, header = pcap_walk, pcap_length, 16
    expected, end = plain_walk(content, length_of, header)
    positions, found_end = walk_all(content)
    assert positions.tolist() == expected
    assert found_end == end


@pytest.mark.parametrize("length", [0, 4, 60])
@pytest.mark.parametrize("cut", [0, 1, 7, 8, 12, 15, 16, 17])
def test_all_lanes_reach_the_end_together(length: int, cut: int) -> None:
    """Records of one size: the last lane is still walked in lockstep where the octets end, in or behind a header."""
    for record, walk_all, length_of, header in (
        (pcap_record(Frame(b"x" * length)), pcap_walk, pcap_length, 16),
        (enhanced(b"x" * length), pcapng_walk, block_length, 8),
    ):
        stream = record * (400_000 // len(record))
        stream = stream[: len(stream) - cut]
        expected, end = plain_walk(stream, length_of, header)
        positions, found_end = walk_all(stream)
        assert positions.tolist() == expected
        assert found_end == end


def test_most_lanes_are_found_in_ordinary_traffic() -> None:
    """Else all the tests above would compare the serial walk with itself."""
    stream = b"".join(pcap_record(Frame(octets)) for octets in payloads(1, 0, 600, 1_000_000))
    parser = pcap.PcapParser(pcap_header(), "<", pcap.VARIANTS[0xA1B2C3D4])
    octets = np.frombuffer(stream, np.uint8)
    expected, _ = plain_walk(stream, pcap_length, 16)
    starts = parser._find(octets, 8192, 8192, 100)
    assert starts.shape[0] > 80
    assert set(starts.tolist()) <= set(expected)


def test_nested_captures_mislead_the_guess_and_nothing_else() -> None:
    frames = payloads(1, 3, 20_000, 1_000_000)
    stream = b"".join(pcap_record(Frame(octets)) for octets in frames)
    parser = pcap.PcapParser(pcap_header(), "<", pcap.VARIANTS[0xA1B2C3D4])
    expected, end = plain_walk(stream, pcap_length, 16)
    starts = parser._find(np.frombuffer(stream, np.uint8), 8192, 8192, 100)
    assert not set(starts.tolist()) <= set(expected)
    positions, found_end = pcap_walk(stream)
    assert positions.tolist() == expected
    assert found_end == end


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17])
def test_fewer_octets_than_a_record(length: int) -> None:
    positions, end = pcap_walk(bytes(length))
    assert positions.tolist() == ([0] if length >= 16 else [])
    assert end == (16 if length >= 16 else 0)


def test_the_smaller_of_two_lengths_counts() -> None:
    """Version 2.3 files exist with the lengths in either order."""
    chain = records.Chain("<", 16, (8, 12), 16, 1, 1)
    lengths = np.random.default_rng(3).integers(0, 500, 2000)
    stream = b"".join(
        struct.pack("<4I", 5, 0, *((n, n + 7) if n % 2 else (n + 7, n))) + bytes(n) for n in lengths.tolist()
    )
    octets = np.frombuffer(stream, np.uint8)
    expected = np.concatenate([[0], np.cumsum(lengths[:-1] + 16)])
    # Every tenth true start serves as a lane.
    positions, end = records.walk(chain, octets, 0, lambda *_: expected[10::10].astype(np.int64))
    assert positions.tolist() == expected.tolist()
    assert end == len(stream)
