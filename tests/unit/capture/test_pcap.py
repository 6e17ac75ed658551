"""Every variant of the classic format, whole, cut and corrupt."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture.records import MAX_RECORD
from analyzer.errors import CaptureFormatError
from analyzer.schema import Interface
from tests.capture_builders import Frame, Trickle, frames_in, pcap_file, pcap_header, pcap_record, reading, rows

FRAMES = [
    Frame(b"\x01\x02\x03", 1_700_000_000_000_001_000),
    Frame(b"", 1_700_000_000_999_999_000, wire_len=60),
    Frame(bytes(range(200)), 4_294_967_295_999_999_000, wire_len=1514),
    Frame(b"\xff" * 61, 0),
]


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("tick_ns", [1000, 1])
def test_byte_orders_and_resolutions(byte_order: str, tick_ns: int) -> None:
    frames = [Frame(f.octets, f.time_ns + (789 if tick_ns == 1 else 0), f.wire_len) for f in FRAMES]
    with reading(pcap_file(frames, byte_order, tick_ns=tick_ns)) as reader:
        assert frames_in(reader) == rows(frames)
        assert reader.format == "pcap"
        assert reader.interfaces == [Interface(link_type=1, snaplen=262_144)]
        assert reader.damage == []


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_kuznetzov_records_have_a_longer_header(byte_order: str) -> None:
    extra = struct.pack(f"{byte_order}IHBB", 3, 0x0800, 4, 0)
    records = b"".join(pcap_record(frame, byte_order, extra=extra) for frame in FRAMES)
    with reading(pcap_header(byte_order, 0xA1B2CD34) + records) as reader:
        assert frames_in(reader) == rows(FRAMES)


@pytest.mark.parametrize(("magic", "tick_ns"), [(0x1C0001AC, 1), (0x1C0001AB, 1000)])
def test_ixia_files_have_a_longer_file_header(magic: int, tick_ns: int) -> None:
    records = b"".join(pcap_record(frame, tick_ns=tick_ns) for frame in FRAMES)
    with reading(pcap_header(magic=magic) + struct.pack("<I", len(records)) + records) as reader:
        assert frames_in(reader) == rows(FRAMES)


@pytest.mark.parametrize("version", [(2, 1), (2, 2), (543, 0)])
def test_old_versions_put_the_original_length_first(version: tuple[int, int]) -> None:
    records = b"".join(struct.pack("<4I", 7, 0, 99, len(f.octets)) + f.octets for f in FRAMES[:2])
    with reading(pcap_header(version=version) + records) as reader:
        assert [(octets, wire_len) for octets, wire_len, *_ in frames_in(reader)] == [(b"\x01\x02\x03", 99), (b"", 99)]


def test_version_2_3_has_the_lengths_in_either_order() -> None:
    records = struct.pack("<4I", 7, 0, 99, 2) + b"ab" + struct.pack("<4I", 7, 0, 3, 99) + b"cde"
    with reading(pcap_header(version=(2, 3)) + records) as reader:
        assert [(octets, wire_len) for octets, wire_len, *_ in frames_in(reader)] == [(b"ab", 99), (b"cde", 99)]


@pytest.mark.parametrize(("link_field", "link_type"), [(0x4400_0001, 1), (0x3000_0084, 132), (276, 276)])
def test_frame_check_sequence_bits_are_not_the_link_type(link_field: int, link_type: int) -> None:
    content = pcap_header(link_field=link_field) + pcap_record(FRAMES[0])
    with reading(content) as reader:
        assert frames_in(reader)[0][4] == link_type
        assert reader.interfaces[0].link_type == link_type


@pytest.mark.parametrize(
    ("header", "offset", "says"),
    [
        (pcap_header(version=(1, 4)), 4, "version 1.4"),
        (pcap_header(version=(3, 0)), 4, "version 3.0"),
        (pcap_header(link_field=0x0030_0000), 20, "reserved bits"),
    ],
)
def test_headers_without_an_agreed_meaning(header: bytes, offset: int, says: str) -> None:
    with pytest.raises(CaptureFormatError, match=says) as error:
        reading(header)
    assert error.value.offset == offset


def test_more_captured_than_on_the_wire() -> None:
    """Seen in files written by broken converters; the captured octets are there, so they are kept."""
    with reading(pcap_header(snaplen=10) + pcap_record(Frame(b"x" * 40, wire_len=20))) as reader:
        ((octets, wire_len, *_),) = frames_in(reader)
    assert (len(octets), wire_len) == (40, 40)


def test_a_fraction_of_more_than_a_second_counts_on() -> None:
    with reading(pcap_header() + struct.pack("<4I", 7, 2**32 - 1, 1, 1) + b"x") as reader:
        assert frames_in(reader)[0][2] == 7 * 10**9 + (2**32 - 1) * 1000


@pytest.mark.parametrize("variant", ["<", ">"])
def test_cut_at_every_octet(variant: str) -> None:
    content = pcap_file(FRAMES, variant)
    ends = [24, 24 + 19, 24 + 35, 24 + 251, len(content)]
    for cut in range(4, len(content) + 1):
        with reading(content[:cut]) as reader:
            whole = sum(end <= cut for end in ends[1:])
            assert frames_in(reader) == rows(FRAMES[:whole])
            if cut in ends:
                assert reader.damage == []
            else:
                (damage,) = reader.damage
                assert damage.offset == max((end for end in ends if end <= cut), default=0)
                assert f"frame {whole + 1}" in damage.reason or cut < 24


def test_a_record_that_claims_too_much_ends_the_reading() -> None:
    content = pcap_file(FRAMES[:2]) + struct.pack("<4I", 1, 1, MAX_RECORD + 1, 60) + bytes(1000)
    with reading(content) as reader:
        assert frames_in(reader) == rows(FRAMES[:2])
        (damage,) = reader.damage
    assert damage.offset == 24 + 19 + 16
    assert f"frame 3 claims {MAX_RECORD + 1} captured octets" in damage.reason


@pytest.mark.parametrize("chunk_octets", [64, 1 << 20, 40 << 20])
def test_the_limit_is_the_same_for_any_chunk(chunk_octets: int) -> None:
    """Also where the chunk would hold a larger record."""
    for length, whole in ((MAX_RECORD, True), (MAX_RECORD + 1, False)):
        content = pcap_header() + struct.pack("<4I", 1, 1, length, length) + bytes(length) + pcap_record(FRAMES[0])
        with reading(content, chunk_octets) as reader:
            lengths = [len(octets) for octets, *_ in frames_in(reader)]
            assert lengths == ([length, 3] if whole else [])
            assert bool(reader.damage) is not whole


FRAME = st.builds(
    Frame,
    st.integers(0, 400).map(lambda length: bytes(length % 251 for _ in range(length))),
    st.integers(0, 2**32 * 10**6 - 1).map(lambda microseconds: microseconds * 1000),
    st.one_of(st.none(), st.integers(0, 2**32 - 1)),
)


@given(
    frames=st.lists(FRAME, max_size=30),
    byte_order=st.sampled_from("<>"),
    counts=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    chunk_octets=st.integers(1, 3000),
)
def test_neither_reads_nor_chunks_change_the_frames(
    frames: list[Frame], byte_order: str, counts: list[int], chunk_octets: int
) -> None:
    content = pcap_file(frames, byte_order)
    with reading(Trickle(content, counts), chunk_octets) as reader:  # type: ignore[arg-type]
        assert frames_in(reader) == rows(frames)
        assert reader.octets_read == len(content)
        assert reader.damage == []


@given(content=st.binary(max_size=3000), seed=st.integers(0, 2**32), flips=st.integers(0, 40))
def test_corrupt_files_end_quietly(content: bytes, seed: int, flips: int) -> None:
    rng = np.random.default_rng(seed)
    octets = bytearray(pcap_file([Frame(content[:100]), Frame(content)] * 3))
    for at in rng.integers(24, len(octets), flips).tolist():
        octets[at] = int(rng.integers(0, 256))
    with reading(bytes(octets), 512) as reader:
        found = frames_in(reader)
    assert sum(len(row[0]) + 16 for row in found) <= len(octets) - 24
