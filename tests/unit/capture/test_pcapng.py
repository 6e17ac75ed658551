"""Sections, interfaces, the three packet blocks, and what else a pcapng file says."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture import facts
from analyzer.capture.records import MAX_RECORD
from analyzer.errors import CaptureFormatError
from analyzer.schema import NO_LINK, Interface
from tests.capture_builders import (
    Frame,
    Trickle,
    block,
    enhanced,
    frames_in,
    interface,
    obsolete,
    options,
    pcapng_file,
    reading,
    rows,
    section,
    simple,
    statistics,
)

BOTH = pytest.mark.parametrize("byte_order", ["<", ">"])


def found_in(content: bytes) -> list[tuple[bytes, int, int, int, int]]:
    with reading(content) as reader:
        found = frames_in(reader)
        assert reader.damage == []
        assert reader.format == "pcapng"
        assert reader.octets_read == len(content)
        return found


@BOTH
def test_the_three_packet_blocks(byte_order: str) -> None:
    content = (
        section(byte_order)
        + interface(byte_order, 1, 5)
        + interface(byte_order, 276)
        + enhanced(b"abc", 1_000_001, 1, 60, byte_order)
        + simple(b"defgh", 90, byte_order)
        + obsolete(b"ij", 2_000_000, 1, byte_order)
        + simple(b"k", None, byte_order)
        + enhanced(b"", 5, 0, None, byte_order)
    )
    assert found_in(content) == [
        (b"abc", 60, 1_000_001_000, 1, 276),
        (b"defgh", 90, 0, 0, 1),
        (b"ij", 2, 2_000_000_000, 1, 276),
        (b"k", 1, 0, 0, 1),
        (b"", 0, 5000, 0, 1),
    ]


@BOTH
def test_only_simple_packets(byte_order: str) -> None:
    frames = [Frame(bytes([n]) * n, 0, n) for n in range(1, 60)]
    content = section(byte_order) + interface(byte_order) + b"".join(simple(f.octets, None, byte_order) for f in frames)
    assert found_in(content) == rows(frames)


def test_sections_of_either_byte_order_number_their_interfaces_on() -> None:
    one = section("<") + interface("<", 1) + interface("<", 101) + enhanced(b"a", 1, 1)
    two = section(">") + interface(">", 113) + enhanced(b"b", 2, 0, None, ">")
    three = section("<") + interface("<", 276, opts=options([(2, b"eth7")])) + enhanced(b"c", 3)
    with reading(one + two + three) as reader:
        assert frames_in(reader) == [(b"a", 1, 1000, 1, 101), (b"b", 1, 2000, 2, 113), (b"c", 1, 3000, 3, 276)]
        assert [i.link_type for i in reader.interfaces] == [1, 101, 113, 276]
        assert reader.interfaces[3].name == "eth7"
        assert reader.damage == []


@BOTH
def test_interface_options(byte_order: str) -> None:
    opts = [
        (2, b"eth0"),
        (3, "capture of node-1 \u00fc".encode()),
        (15, b"virtio\0\0"),
        (9, b"\x09"),
        (14, struct.pack(f"{byte_order}q", -10)),
        (1, b"first comment"),
        (8, bytes(8)),
    ]
    content = (
        section(byte_order, options([(1, b"of the section"), (4, b"dumpcap")], byte_order))
        + interface(byte_order, 1, 96, options(opts, byte_order))
        + enhanced(b"a", 20_000_000_007, 0, None, byte_order)
    )
    with reading(content) as reader:
        assert frames_in(reader) == [(b"a", 1, 10_000_000_007, 0, 1)]
        assert reader.interfaces == [Interface(1, 96, "eth0", "capture of node-1 \u00fc", "virtio")]
        assert reader.comments == [(0, "of the section"), (0, "first comment")]


def test_interfaces_with_different_clocks() -> None:
    resolutions = [b"\x06", b"\x09", b"\x03", b"\x8a", b"\x09"]
    ticks = [5_000_000, 5_000_000_000, 5_000, 5 << 10, 5_000_000_001]
    content = section() + b"".join(interface(opts=options([(9, r)])) for r in resolutions)
    content += b"".join(enhanced(b"x", tick, number) for number, tick in enumerate(ticks))
    assert [row[2] for row in found_in(content)] == [5 * 10**9] * 4 + [5 * 10**9 + 1]


@BOTH
def test_statistics(byte_order: str) -> None:
    def count(n: int) -> bytes:
        return struct.pack(f"{byte_order}Q", n)

    content = (
        section(byte_order)
        + interface(byte_order)
        + interface(byte_order)
        + statistics(1, options([(4, count(5))], byte_order), byte_order)
        + statistics(1, options([(4, count(100)), (5, count(3)), (7, count(2**40))], byte_order), byte_order)
        + statistics(9, options([(4, count(1))], byte_order), byte_order)
        + statistics(0, options([(5, b"\1\2")], byte_order), byte_order)
    )
    with reading(content) as reader:
        assert frames_in(reader) == []
        assert [(i.received, i.dropped) for i in reader.interfaces] == [(None, None), (100, 3 + 2**40)]
        assert reader.damage == []


@BOTH
def test_names_secrets_and_unknown_blocks(byte_order: str) -> None:
    key_log = b"CLIENT_RANDOM " + b"0" * 64 + b" " + b"1" * 96 + b"\n"
    names = [
        (1, bytes([10, 0, 0, 5]) + b"node-1\0node-1.example\0"),
        (2, bytes(15) + b"\1" + b"loopback\0"),
        (1, b"\1\2"),
        (77, b"what"),
    ]
    secrets = struct.pack(f"{byte_order}II", 0x544C534B, len(key_log)) + key_log
    wireguard = struct.pack(f"{byte_order}II", 0x57474B4C, 4) + b"abcd"
    content = (
        section(byte_order)
        + block(4, options(names, byte_order), byte_order)
        + interface(byte_order)
        + block(10, secrets, byte_order)
        + block(10, wireguard, byte_order)
        + block(10, b"\1\2", byte_order)
        + block(0x0BAD, struct.pack(f"{byte_order}I", 32473) + b"custom", byte_order)
        + block(0x80000001, b"process information", byte_order)
        + enhanced(b"a", 0, 0, None, byte_order)
    )
    with reading(content) as reader:
        # The custom block has a frame number and is no packet.
        assert frames_in(reader) == [(b"", 0, 0, 0, NO_LINK), (b"a", 1, 0, 0, 1)]
        assert reader.names == [("10.0.0.5", "node-1"), ("10.0.0.5", "node-1.example"), ("::1", "loopback")]
        assert reader.secrets == [key_log]
        assert reader.damage == []


def _other_blocks(byte_order: str) -> list[bytes]:
    """One of each block that is no packet; all but the last three get a frame number from Wireshark."""
    system_call = struct.pack(f"{byte_order}HQQIH", 0, 1, 2, 22, 3) + bytes(20)
    return [
        block(0x0BAD, struct.pack(f"{byte_order}I", 32473) + b"one", byte_order),
        block(0x40000BAD, struct.pack(f"{byte_order}I", 32473) + b"other", byte_order),
        block(9, b"__REALTIME_TIMESTAMP=1404101101501873\nMESSAGE=hello\n", byte_order),
        block(0x0204, system_call, byte_order),
        block(0x0216, system_call, byte_order),
        block(0x0221, system_call, byte_order),
        block(4, bytes(4), byte_order),
        block(0x80000001, b"process information", byte_order),
        block(77, b"unknown", byte_order),
    ]


@pytest.mark.tshark
@BOTH
def test_frames_are_numbered_as_tshark_numbers_them(byte_order: str, tmp_path: Path) -> None:
    content = section(byte_order) + interface(byte_order)
    for number, other in enumerate(_other_blocks(byte_order)):
        content += enhanced(bytes(60 + number), 0, 0, None, byte_order, options([(1, b"%d" % number)], byte_order))
        content += other
    path = tmp_path / "x.pcapng"
    path.write_bytes(content)
    fields = ["-T", "fields", "-e", "frame.number", "-e", "frame.len", "-Y", "eth"]
    out = subprocess.run(["tshark", "-r", path, *fields], capture_output=True, text=True, check=True).stdout
    theirs = [tuple(map(int, line.split())) for line in out.splitlines()]

    with reading(content) as reader:
        found = frames_in(reader)
        ours = [(n, wire) for n, (_, wire, _, _, link) in enumerate(found, 1) if link != NO_LINK]
        assert ours == theirs
        assert len(found) == 9 + 6
        assert [frame for frame, _ in reader.comments] == [frame for frame, _ in theirs]


@BOTH
@pytest.mark.parametrize("frames", [3, 200])
def test_drops_that_packets_count(byte_order: str, frames: int) -> None:
    """The sum of epb_dropcount, or the interface's own count where that is larger."""

    def count(n: int) -> bytes:
        return struct.pack(f"{byte_order}Q", n)

    packets = b"".join(
        enhanced(b"x", 0, n % 2, None, byte_order, options([(2, bytes(4)), (4, count(n % 3))], byte_order))
        for n in range(frames)
    )
    content = section(byte_order) + interface(byte_order) * 2 + packets
    content += statistics(1, options([(5, count(100_000))], byte_order), byte_order)
    with reading(content) as reader:
        assert len(frames_in(reader)) == frames
        assert [i.dropped for i in reader.interfaces] == [sum(n % 3 for n in range(0, frames, 2)), 100_000]


def test_what_an_interface_was_captured_with() -> None:
    opts = options([(2, b"eth0"), (11, b"\0tcp port 6443"), (12, b"Linux 6.1")])
    with reading(section() + interface(opts=opts) + interface(opts=options([(11, b"\1" + bytes(16))]))) as reader:
        assert frames_in(reader) == []
        assert [(i.filter, i.system) for i in reader.interfaces] == [
            ("tcp port 6443", "Linux 6.1"),
            ("filter program of 16 octets", ""),
        ]


@BOTH
@pytest.mark.parametrize("frames", [3, 200])
def test_packet_comments(byte_order: str, frames: int) -> None:
    """Three take the serial way through the options, two hundred the columns."""
    content = section(byte_order) + interface(byte_order)
    expected = []
    for number in range(1, frames + 1):
        pairs = [(2, bytes(4))] * (number % 3) + [(1, b"pod-%d" % number)] * (number % 4) + [(4, bytes(8))]
        expected += [(number, f"pod-{number}")] * (number % 4)
        opts = options(pairs, byte_order, end=bool(number % 2))
        content += enhanced(b"x" * (number % 7), 0, 0, None, byte_order, opts)
    with reading(content) as reader:
        assert len(frames_in(reader)) == frames
        assert reader.comments == expected


@pytest.mark.parametrize("copies", [1, 40])
def test_options_that_lie_cost_nothing_but_themselves(copies: int) -> None:
    bad = [
        struct.pack("<HH", 1, 500) + b"past the block",
        struct.pack("<HH", 1, 3) + b"abc\0" + struct.pack("<HH", 1, 65535),
        struct.pack("<HH", 2, 0) * 30,
        struct.pack("<HH", 1, 1),
    ]
    content = section() + interface() + b"".join(enhanced(b"frame", opts=o) for o in bad * copies)
    with reading(content) as reader:
        assert [octets for octets, *_ in frames_in(reader)] == [b"frame"] * len(bad) * copies
        assert reader.comments == [(number, "abc") for number in range(2, len(bad) * copies + 1, len(bad))]
        assert reader.damage == []


def test_the_shortest_comment() -> None:
    with reading(section() + interface() + enhanced(b"abcd", opts=options([(1, b"")], end=False))) as reader:
        frames_in(reader)
        assert reader.comments == [(1, "")]


def test_text_ends_at_a_zero() -> None:
    with reading(section() + interface(opts=options([(2, b"eth0\0\xffgarbage")])) + enhanced(b"a")) as reader:
        frames_in(reader)
        assert reader.interfaces[0].name == "eth0"


def test_keys_in_comments_are_removed() -> None:
    lines = "CLIENT_RANDOM " + "ab" * 32 + " " + "0C" * 48 + "\nCLIENT_TRAFFIC_SECRET_0 " + "1f" * 32 + " " + "2e" * 48
    content = section(opts=options([(1, f"taken on node-1\n{lines}".encode())])) + interface() + enhanced(b"a")
    with reading(content) as reader:
        frames_in(reader)
        expected = "taken on node-1\nCLIENT_RANDOM (key removed)\nCLIENT_TRAFFIC_SECRET_0 (key removed)"
        assert reader.comments == [(0, expected)]


def test_untrusted_text_stays_text() -> None:
    content = section() + interface(opts=options([(2, b"\xff\xfeeth\x1b[31m")])) + enhanced(b"a")
    with reading(content) as reader:
        frames_in(reader)
        assert reader.interfaces[0].name == "\ufffd\ufffdeth\x1b[31m"


def test_lengths_that_do_not_count_the_padding() -> None:
    """Written by early tools and read by Wireshark: the total length counts 1 octet of data, the block pads it to 4."""
    body = struct.pack("<5I", 0, 0, 0, 1, 1) + b"a"
    total = struct.pack("<I", 12 + len(body))
    content = section() + interface() + (struct.pack("<I", 6) + total + body + bytes(3) + total) * 3
    assert [octets for octets, *_ in found_in(content)] == [b"a"] * 3


GOOD = section() + interface() + enhanced(b"whole")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (struct.pack("<III", 6, 8, 8), "claims 8 octets, too few"),
        (struct.pack("<II", 6, 2**31), "more than the limit"),
        (enhanced(b"abcd")[:-4] + struct.pack("<I", 99), "36 octets at its start and 99 at its end"),
        (enhanced(b"abcd", number=1), "names interface 1 of a section with 1"),
        (obsolete(b"abcd", number=65535), "names interface 65535"),
        (block(6, struct.pack("<5I", 0, 0, 0, 5, 5) + b"abcd"), "more captured octets than its block holds"),
        (block(6, bytes(16)), "type 6 claims 28 octets, too few"),
        (block(3, b""), "type 3 claims 12 octets, too few"),
        (block(1, bytes(4)), "type 1 claims 16 octets, too few"),
        (section() + simple(b"abc"), "names interface 0 of a section with 0"),
        (section(version=(1, 1)), "version 1.1"),
        (struct.pack("<III", 0x0A0D0D0A, 28, 0x11111111) + bytes(16), "byte-order magic"),
        (struct.pack("<IIIHH", 0x0A0D0D0A, 16, 0x1A2B3C4D, 1, 0), "section header claims 16"),
        (section()[:-4] + bytes(4), "28 octets at its start and 0 at its end"),
    ],
)
@pytest.mark.parametrize("good", [1, 2000])
def test_a_block_that_contradicts_itself_ends_the_reading(bad: bytes, says: str, good: int) -> None:
    before = GOOD + enhanced(b"whole") * (good - 1)
    with reading(before + bad + GOOD * 20) as reader:
        assert [octets for octets, *_ in frames_in(reader)] == [b"whole"] * good
        (damage,) = reader.damage
    assert says in damage.reason
    # The only case in which the damaged block is not the first: a sound section without interfaces comes before it.
    assert damage.offset == len(before) + (len(section()) if "section with 0" in says else 0)


@pytest.mark.parametrize("version", [(1, 1), (0, 1), (2, 0)])
def test_unknown_versions(version: tuple[int, int]) -> None:
    with pytest.raises(CaptureFormatError, match=f"version {version[0]}.{version[1]}"):
        reading(section(version=version) + interface())


def test_cut_at_every_octet() -> None:
    blocks = [
        section(),
        interface(),
        enhanced(b"abc"),
        simple(b"defgh"),
        section(">"),
        interface(">"),
        enhanced(b"x" * 50, 1, 0, 99, ">", options([(1, b"text")], ">")),
    ]
    packets = {2: b"abc", 3: b"defgh", 6: b"x" * 50}
    ends = [sum(map(len, blocks[: n + 1])) for n in range(len(blocks))]
    content = b"".join(blocks)
    for cut in range(4, len(content) + 1):
        with reading(content[:cut]) as reader:
            assert [o for o, *_ in frames_in(reader)] == [octets for n, octets in packets.items() if ends[n] <= cut]
            if cut in ends:
                assert reader.damage == []
            else:
                (damage,) = reader.damage
                assert damage.offset == max((end for end in ends if end <= cut), default=0)
                assert "cut" in damage.reason


def test_what_is_kept_besides_frames_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "MAX_TEXT", 1000)
    noted = section() + interface() + b"".join(enhanced(b"a", opts=options([(1, b"c" * 36)])) for _ in range(50))
    with reading(noted + block(10, struct.pack("<II", 0x544C534B, 2000) + bytes(2000)) + enhanced(b"b")) as reader:
        assert len(frames_in(reader)) == 51
        assert reader.comments == [(frame, "c" * 36) for frame in range(1, 10)]
        assert reader.secrets == []
        assert [damage.reason.split(":")[0] for damage in reader.damage] == [
            "more than 1000 octets of comments",
            "more than 1000 octets of secrets",
        ]


@pytest.mark.parametrize("chunk_octets", [64, 40 << 20])
def test_blocks_are_bounded_the_same_for_any_chunk(chunk_octets: int) -> None:
    largest = MAX_RECORD + (1 << 20) - 12
    for length, whole in ((largest, True), (largest + 4, False)):
        with reading(GOOD + block(99, bytes(length)) + enhanced(b"behind"), chunk_octets) as reader:
            assert len(frames_in(reader)) == 1 + whole
            assert bool(reader.damage) is not whole


def test_interfaces_are_bounded() -> None:
    content = section() + enhanced(b"")[:0] + interface() * (facts.MAX_INTERFACES + 5)
    with reading(content) as reader:
        assert frames_in(reader) == []
        assert len(reader.interfaces) == facts.MAX_INTERFACES
        assert "more than 65536 interfaces" in reader.damage[0].reason


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=40),
    byte_order=st.sampled_from("<>"),
    counts=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    chunk_octets=st.integers(1, 3000),
)
def test_neither_reads_nor_chunks_change_the_frames(
    payloads: list[bytes], byte_order: str, counts: list[int], chunk_octets: int
) -> None:
    frames = [Frame(octets, n * 1000) for n, octets in enumerate(payloads)]
    content = pcapng_file(frames, byte_order)
    with reading(Trickle(content, counts), chunk_octets) as reader:  # type: ignore[arg-type]
        assert frames_in(reader) == rows(frames)
        assert reader.damage == []


@given(seed=st.integers(0, 2**32), flips=st.integers(1, 20), chunk_octets=st.sampled_from([64, 1000, 1 << 20]))
def test_corrupt_files_end_quietly_and_alike_for_any_chunk(seed: int, flips: int, chunk_octets: int) -> None:
    rng = np.random.default_rng(seed)
    octets = bytearray((GOOD + simple(b"s") + enhanced(b"c", opts=options([(1, b"text")])) + statistics(0, b"")) * 4)
    for at in rng.integers(28, len(octets), flips).tolist():
        octets[at] = int(rng.choice([0, 1, 6, 10, 255, int(rng.integers(0, 256))]))
    with reading(bytes(octets), chunk_octets) as reader:
        found = frames_in(reader)
    with reading(bytes(octets), 1 << 20) as again:
        assert frames_in(again) == found
        assert again.damage == reader.damage
