"""Second opinions: what tshark and dpkt find in the same files."""

from __future__ import annotations

import io
import json
import subprocess
from decimal import Decimal
from pathlib import Path

import dpkt
import pytest

from analyzer.capture.source import open_capture
from tests.capture_builders import Frame, frames_in, pcap_file, reading
from tests.conftest import SHARED, all_lab_captures

PUBLIC = SHARED / "public"
LAB = [path for path in all_lab_captures() if path.stat().st_size < 300_000]
FOR_TSHARK = [path for path in LAB if path.stat().st_size < 40_000 or "-fmt-" in path.name or ".pcapng" in path.name]
"""A run of tshark takes a third of a second: these are all formats, and whatever else is smallest."""

DIVERSE = [
    "arkime/bigendian.pcap",
    "ndpi/pcap/nfsv3.pcap",
    "ndpi/pcap/steam.pcapng",
    "ndpi/pcap/kerberos_fuzz.pcapng",
    "pcapng-test-generator/output_be/basic/test010.pcapng",
    "pcapng-test-generator/output_be/basic/test016.pcapng",
    "pcapng-test-generator/output_le/basic/test011.pcapng",
    "pcapng-test-generator/output_le/difficult/test200.pcapng",
    "pcapplusplus/Pcap++Test/PcapExamples/nanosecs_big_endian.pcap",
    "pcapplusplus/Pcap++Test/PcapExamples/pcapng-example.pcapng",
    "scapy/macos.pcapng.gz",
    "zeek/Traces/pcapng-multi-interface.pcapng",
    "zeek/Traces/tls/tls-fragmented-handshake.pcap.gz",
    "wireshark-notes/tls/broken/dump.pcapng",
    "antrea-task/outputs/capture-file.f7fbb22e.pcap",
]

COUNTED_OTHERWISE = {
    "suricata-verify/bug-6875-01/fuzz.pcap": "tshark tries the record layouts of patched libpcaps of 1999 on it; "
    "tcpdump reads the one frame we read and stops at the same record"
}


def tshark_rows(path: Path) -> list[tuple[int, int, int, int]]:
    """Number, time in nanoseconds, captured and wire length of each frame."""
    fields = ["frame.number", "frame.time_epoch", "frame.cap_len", "frame.len"]
    arguments = ["tshark", "-n", "-r", str(path), "-T", "fields"]
    for field in fields:
        arguments += ["-e", field]
    # tshark's status is that of the file's damage, which is compared by its frames.
    output = subprocess.run(arguments, capture_output=True, text=True, check=False).stdout
    rows = []
    for line in output.splitlines():
        number, time, captured_len, wire_len = line.split("\t")
        # Times past 2116 do not fit our columns beside an offset and stay at the last that does.
        time_ns = min(int(Decimal(time or "0") * 10**9), 2**62 - 1)
        rows.append((int(number), time_ns, int(captured_len), int(wire_len)))
    return rows


def our_rows(path: Path) -> list[tuple[int, int, int, int]]:
    with open_capture(str(path)) as reader:
        found = frames_in(reader)
    return [(n, time, len(octets), wire_len) for n, (octets, wire_len, time, _, _) in enumerate(found, 1)]


@pytest.mark.tshark
@pytest.mark.parametrize("path", FOR_TSHARK, ids=lambda path: path.name)
def test_lab_captures_as_tshark_reads_them(path: Path) -> None:
    assert our_rows(path) == tshark_rows(path)


@pytest.mark.tshark
@pytest.mark.corpus
@pytest.mark.parametrize("name", DIVERSE)
def test_public_captures_as_tshark_reads_them(name: str) -> None:
    assert our_rows(PUBLIC / name) == tshark_rows(PUBLIC / name)


@pytest.mark.corpus
def test_frame_counts_of_all_public_captures() -> None:
    """The manifest holds tshark's counts; every difference has a reason that can be checked."""
    wrong = []
    for entry in json.loads((PUBLIC / "manifest.json").read_text()):
        refused = entry["tshark"]["exit"] != "rc=0" and entry["packets"] == 0
        if refused or entry["file"] in COUNTED_OTHERWISE:  # damaged on purpose, or a link type tshark does not know
            continue
        with open_capture(str(PUBLIC / entry["file"])) as reader:
            frames = sum(len(chunk) for chunk in reader)
        # Custom blocks (pcapng 4.8) and journal entries are frames to tshark, and so they are here.
        expected = entry["packets"]
        cut = entry["tshark"]["exit"] != "rc=0"
        if (frames, bool(reader.damage)) != (expected, cut):
            wrong.append((entry["file"], frames, expected, reader.damage))
    assert wrong == []


@pytest.mark.parametrize("path", [p for p in LAB if p.suffix == ".pcap"], ids=lambda path: path.name)
def test_lab_captures_as_dpkt_reads_them(path: Path) -> None:
    content = path.read_bytes()
    expected: list[bytes] = []
    cut_header = False
    try:
        expected += (bytes(octets) for _, octets in dpkt.pcap.Reader(io.BytesIO(content)))
    except dpkt.NeedData:
        cut_header = True
    with open_capture(str(path)) as reader:
        ours = [octets for octets, *_ in frames_in(reader)]
        # dpkt hands out a frame that the end of the file cuts as if it were whole.
        cut_frame = bool(reader.damage) and not cut_header
        assert ours == (expected[:-1] if cut_frame else expected)
        assert bool(reader.damage) is (cut_frame or cut_header)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("tick_ns", [1000, 1])
def test_times_as_dpkt_reads_them(byte_order: str, tick_ns: int) -> None:
    frames = [Frame(b"x" * n, (1_700_000_000 + n) * 10**9 + n * 1_001_000) for n in range(100)]
    content = pcap_file(frames, byte_order, tick_ns=tick_ns)
    expected = [int(Decimal(str(time)) * 10**9) for time, _ in dpkt.pcap.Reader(io.BytesIO(content))]
    with reading(content) as reader:
        ours = [time for _, _, time, _, _ in frames_in(reader)]
    # dpkt's times are floats for microseconds.
    assert all(abs(one - other) < 1000 for one, other in zip(ours, expected, strict=True))
