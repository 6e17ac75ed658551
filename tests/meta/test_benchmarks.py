"""The scaled captures that figures are measured on are what they are said to be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from analyzer.capture.several import Source, open_captures
from analyzer.pipeline import run
from analyzer.schema import FlowTable
from tests.conftest import LAB, ROOT

SOURCE = LAB / "10-tls12.pcap"


def scaled(target: Path, packets: int, clusters: int | None = None) -> FlowTable:
    """Flows of a scaled capture."""
    command = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), str(SOURCE), str(target)]
    command += ["--packets", str(packets)] + (["--clusters", str(clusters)] if clusters else [])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    with open_captures([Source(str(target))]) as reader:
        result = run(reader)
    assert result.ledger.frames == packets
    return result.audit.evidence.flows


def test_copies_are_clusters_of_their_own(tmp_path: Path) -> None:
    one = scaled(tmp_path / "one.pcap", 500)
    frames = sum(one.packets.sum(axis=1).tolist())

    again = scaled(tmp_path / "again.pcap", 500)

    assert (tmp_path / "one.pcap").read_bytes() == (tmp_path / "again.pcap").read_bytes()
    assert len(again) == len(one)
    assert frames == 500


def test_with_clusters_traffic_grows_and_connections_do_not(tmp_path: Path) -> None:
    whole = scaled(tmp_path / "two.pcap", 20_000, clusters=2)
    longer = scaled(tmp_path / "longer.pcap", 40_000, clusters=2)
    unlimited = scaled(tmp_path / "unlimited.pcap", 40_000)

    assert len(longer) == len(whole)
    assert len(unlimited) > len(longer)
    assert int(longer.packets.sum()) == 40_000
