"""The scaled captures that figures are measured on are what they are said to be."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from analyzer.analysis import run
from analyzer.capture.discovery import Source, open_captures
from analyzer.registries import Protocol
from analyzer.schema import FlowTable
from tests.conftest import LAB, ROOT

SOURCE = LAB / "10-tls12.pcap"


def scaled(target: Path, packets: int, clusters: int | None = None) -> FlowTable:
    """Flows of a scaled capture."""
    command = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), str(target), str(SOURCE)]
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


def test_the_mix_has_the_connections_asked_for_and_every_protocol(tmp_path: Path) -> None:
    connections, packets = 400, 30_000
    target = tmp_path / "mix.pcap"
    command = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), str(target), "--packets", str(packets)]
    subprocess.run(
        [*command, "--connections", str(connections)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    with open_captures([Source(str(target))]) as reader:
        evidence = run(reader).audit.evidence

    assert abs(len(evidence.flows) - connections) < connections * 0.2
    spoken = set(np.unique(evidence.identification.protocol).tolist())
    assert spoken >= {Protocol.TLS, Protocol.HTTP1, Protocol.HTTP2, Protocol.SSH}
    assert {0x0303, 0x0304} <= set(np.unique(evidence.tls.facts.version).tolist())


def test_copies_past_those_that_addresses_tell_apart_have_other_ports() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "benchmarks" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = generate
    spec.loader.exec_module(generate)
    records = generate.load([(SOURCE, None)])
    copies = generate.Copies(records)

    first, beyond = copies.copy(3, 0, 0), copies.copy(3 + (1 << 16), 0, 0)

    changed = np.flatnonzero(first != beyond)
    ports = (records.transport[:, None] + np.arange(4)).ravel()
    assert changed.shape[0]
    assert np.isin(changed, ports).all()
