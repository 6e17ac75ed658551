"""CPU time that reading TLS adds to the flow stage, for many connections with readable certificates, as Markdown.

    python benchmarks/tls.py [--connections 50000] [--runs 5] [--source CAPTURE]

The source is scaled (see ``generate.py``) until it holds as many TLS handshakes. In one process: CPU time of packets
to flows and heads, and then of reading TLS from the heads, over the same file; medians and the ratio of each run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from analyzer.capture.source import open_capture
from analyzer.pipeline import Limits, Pipeline
from analyzer.protocols.identify import identify
from analyzer.protocols.tls import read_tls
from analyzer.registries import Protocol

ROOT = Path(__file__).resolve().parents[1]


def one_pass(path: Path) -> tuple[float, float, int, int]:
    """CPU seconds of flows and heads, CPU seconds of reading TLS, TLS connections, and those with certificates."""
    begin = time.process_time()
    # Nothing is read before the end, so that the two stages stand apart.
    pipeline = Pipeline(Limits(heads_budget=1 << 40, settle_octets=1 << 40))
    with open_capture(str(path)) as reader:
        for chunk in reader:
            pipeline.add(chunk)
    table, streams = pipeline.flows.finish(np.arange(len(pipeline.flows)))
    heads = pipeline.heads.assemble(streams.reshape(-1))
    flows_done = time.process_time()
    # Which flows are TLS is asked for every protocol alike.
    rows = np.flatnonzero(identify(table, heads, {}).protocol == Protocol.TLS)
    identified = time.process_time()
    reading = read_tls(heads, rows, table.flags[rows])
    read = time.process_time() - identified
    seen = (reading.facts.client_hello_seen | reading.facts.server_hello_seen).sum()
    return flows_done - begin, read, int(seen), int((reading.facts.server_chain >= 0).sum())


def handshakes(path: Path) -> tuple[int, int]:
    """Frames of a capture, and its TLS connections with a hello."""
    with open_capture(str(path)) as reader:
        frames = sum(len(chunk) for chunk in reader)
    return frames, one_pass(path)[2]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--source", type=Path, default=ROOT / "captures" / "10b-legacy-tls.pcap")
    options = parser.parse_args()
    frames, found = handshakes(options.source)
    packets = -(-options.connections // found) * frames
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "scaled.pcap"
        generate = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), str(options.source), str(target)]
        subprocess.run([*generate, "--packets", str(packets)], check=True, stdout=subprocess.DEVNULL)
        passes = [one_pass(target) for _ in range(options.runs)]
    flow = statistics.median(run[0] for run in passes)
    tls = statistics.median(run[1] for run in passes)
    ratio = statistics.median(run[1] / run[0] for run in passes)
    connections, certified = passes[0][2], passes[0][3]
    print(f"{connections} TLS connections, {certified} with a readable certificate, from {options.source.name}:")
    print()
    print("| stage | CPU s, median | per 50,000 connections |")
    print("|---|---|---|")
    for name, seconds in (("flows and heads", flow), ("reading TLS", tls)):
        print(f"| {name} | {seconds:.2f} | {seconds * 50_000 / max(connections, 1):.2f} |")
    print()
    print(f"reading TLS / flows and heads: {ratio:.2f} (median of {options.runs} paired runs)")


if __name__ == "__main__":
    main()
