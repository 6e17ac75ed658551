"""What the writer writes is what readers read: ours, and tshark."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture.pcapng_writer import (
    WrittenFrame,
    interface_block,
    packet_blocks,
    pcapng_octets,
    section_block,
    statistics_block,
)
from analyzer.schema import CaptureChunk, Interface
from tests.capture_builders import frames_in, reading

INTERFACES = (Interface(1, 0, "eth0", "first"), Interface(276, 262144, ""), Interface(101, 96, "lo\u202e"))


@given(
    st.lists(
        st.tuples(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 2**61), st.integers(0, 2)), max_size=12
    ),
    st.text(max_size=40),
    st.lists(st.binary(min_size=1, max_size=20), max_size=2),
)
def test_it_reads_back(rows: list[tuple[bytes, int, int, int]], comment: str, secrets: list[bytes]) -> None:
    comment = comment.encode("utf-8", "ignore").decode().replace("\0", "")
    frames = [WrittenFrame(o, len(o) + more, t, i, comment) for o, more, t, i in rows]
    octets = pcapng_octets(INTERFACES, frames, comment=comment, application="planewire", secrets=secrets)

    reader = reading(octets)

    assert frames_in(reader) == [
        (f.octets, f.wire_len, f.time_ns, f.interface, INTERFACES[f.interface].link_type) for f in frames
    ]
    assert reader.damage == []
    assert [(i.link_type, i.snaplen, i.name, i.description) for i in reader.interfaces] == [
        (i.link_type, i.snaplen, i.name, i.description) for i in INTERFACES
    ]
    assert reader.secrets == secrets
    if comment:
        assert reader.comments == [(0, comment), *((n, comment) for n in range(1, len(frames) + 1))]


@given(
    st.lists(
        st.tuples(st.binary(max_size=700), st.integers(0, 60), st.integers(0, 2**61), st.integers(0, 2)),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 9),
)
def test_blocks_written_together_are_those_written_one_by_one(
    rows: list[tuple[bytes, int, int, int]], gap: int
) -> None:
    frames = [WrittenFrame(o, len(o) + more, t, i) for o, more, t, i in rows]
    one_by_one = pcapng_octets(INTERFACES, frames)
    length = np.array([len(f.octets) for f in frames], np.int64)
    chunk = CaptureChunk(
        octets=np.frombuffer(b"".join(bytes(range(1, gap + 1)) + f.octets for f in frames), np.uint8),
        start=np.cumsum(length + gap) - length,
        captured_len=length,
        wire_len=np.array([f.wire_len for f in frames], np.int64),
        time_ns=np.array([f.time_ns for f in frames], np.int64),
        interface=np.array([f.interface for f in frames], np.int32),
        link_type=np.zeros(len(frames), np.int32),
        first_frame=1,
    )

    octets, end = packet_blocks(chunk)

    together = section_block() + b"".join(map(interface_block, INTERFACES)) + octets.tobytes()
    assert together == one_by_one
    assert end.tolist() == np.cumsum(32 + (length + 3 & ~3)).tolist()


def test_interfaces_say_what_they_are_and_what_they_lost() -> None:
    told = Interface(1, 96, "eth0", "first", filter="tcp port 443", system="Linux 6.1", received=70, dropped=7)
    reader = reading(section_block() + interface_block(told) + statistics_block(0, told, 1_700_000_000_000_000_000))
    assert list(reader) == []
    assert reader.interfaces == [told]


@pytest.mark.tshark
def test_tshark_reads_it_too(tmp_path: Path) -> None:
    frames = [WrittenFrame(bytes(14 + n), 100, 1_700_000_000_123_456_789 + n, 0, f"number {n}") for n in range(3)]
    path = tmp_path / "x.pcapng"
    path.write_bytes(pcapng_octets(INTERFACES[:1], frames, comment="why", application="planewire"))

    done = subprocess.run(
        ["tshark", "-r", path, "-T", "fields", "-e", "frame.len", "-e", "frame.time_epoch", "-e", "frame.comment"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == [f"100\t1700000000.{123456789 + n}\tnumber {n}" for n in range(3)]
