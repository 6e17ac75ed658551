"""What the writer writes is what readers read: ours, and tshark."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture.pcapng_writer import WrittenFrame, pcapng_octets
from analyzer.schema import Interface
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
