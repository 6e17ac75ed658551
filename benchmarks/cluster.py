"""What it costs to read many captures on many machines: figures to size a cluster by.

    python benchmarks/cluster.py [--nodes 8] [--packets 300000] [--connections 1000000]

Captures of so many nodes are scaled from recordings, each with hosts of its own, and read one after the other, by
processes of this machine, and by a Dask cluster of them, which must all give the same report. Then the result of one
node, copied with other addresses, sequence numbers and randoms, is merged until there are so many connections.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
from generate import Copies, mixed

from analyzer.analysis import Work
from analyzer.capture.discovery import Source, open_captures
from analyzer.partial import Partial, merge
from analyzer.pipeline import Limits

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
MIB = 1 << 20
STEPS = {
    "unpacking": "unpack_s", "merging": "merge_s", "concluding": "conclude_s", "the JSON report": "document_s",
}  # fmt: skip


def write_nodes(folder: Path, nodes: int, packets: int) -> list[Path]:
    """Captures of so many nodes, which have no connection in common."""
    copies = Copies(records := mixed())
    paths = []
    for node in range(nodes):
        path = folder / f"node-{node:03}" / "eth0.pcap"
        path.parent.mkdir()
        with path.open("wb") as out:
            out.write(np.array([0xA1B2C3D4], "u4").tobytes() + np.array([2, 4], "u2").tobytes())
            out.write(np.array([0, 0, 262144, 1], "u4").tobytes())
            written = 0
            for turn in count():
                take = min(packets - written, records.start.shape[0])
                if take <= 0:
                    break
                block = copies.copy(turn * nodes + node, 0, turn)
                out.write(block[: records.start[take] if take < records.start.shape[0] else None].data)
                written += take
        paths.append(path)
    return paths


def timed(arguments: list[str]) -> tuple[float, float, bytes]:
    """Wall and CPU seconds of the command and its children, and the report."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "analyzer", "analyze", "-q", "--fail-on", "never", "--json", "-", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, cpu, done.stdout


def inside(function: str, *arguments: str) -> dict[str, float]:
    """What a function of this file measures, in a process of its own."""
    command = [sys.executable, __file__, "--inside", function, *arguments]
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, env=ENVIRONMENT).stdout
    )
    return found


def peak() -> float:
    """MiB resident at most; what getrusage(2) says is inherited from whoever started this process."""
    said = Path("/proc/self/status").read_text()
    return int(said.split("VmHWM:")[1].split()[0]) / 1024


def reading(path: str, target: str) -> dict[str, float]:
    """What a worker does with one capture."""
    before = peak()
    with open_captures([Source(path), Source(os.devnull)]) as reader:
        begin = time.process_time()
        partials = [p for portion in reader.portions for p in Work(Limits(), None).read_portion(portion)]
        cpu = time.process_time() - begin
    begin = time.process_time()
    octets = pickle.dumps(partials, protocol=5)
    packed = time.process_time() - begin
    Path(target).write_bytes(octets)
    connections = sum(len(p.assembled.evidence) for p in partials)
    return {
        "cpu_s": cpu, "peak_mib": peak(), "start_mib": before, "octets": len(octets), "pickle_s": packed,
        "connections": connections,
    }  # fmt: skip


def elsewhere(partial: Partial, number: int) -> Partial:
    """The same result as if it came from other hosts."""
    assembled = partial.assembled
    flows = assembled.evidence.flows
    address = flows.address.copy()
    address[:, :, 13] ^= number & 255
    address[:, :, 12] ^= number >> 8
    seq = np.where(flows.syn_seq >= 0, (flows.syn_seq + number * 7919) & 0xFFFFFFFF, -1)
    hello = assembled.handshakes.hello.copy()
    hello[(hello != 0).any(axis=1)] += np.uint64(number)
    evidence = replace(assembled.evidence, flows=replace(flows, address=address, syn_seq=seq))
    moved = replace(assembled, evidence=evidence, handshakes=assembled.handshakes._replace(hello=hello))
    return replace(partial, first=number, assembled=moved)


def merging(source: str, connections: str) -> dict[str, float]:
    """What the process that merges does."""
    from analyzer.analysis import ClusterContext, conclude
    from analyzer.assembly import finish
    from analyzer.ledger import Ledger
    from analyzer.report.audit_result import CaptureSummary, InputSummary
    from analyzer.report.document import build_document
    from analyzer.report.tables import json_pieces

    octets = Path(source).read_bytes()
    own = len(pickle.loads(octets)[0].assembled.evidence)
    begin = time.process_time()
    copies = max(2, round(int(connections) / own))
    arrived = [pickle.loads(octets)[0] for _ in range(copies)]
    unpacked = time.process_time() - begin
    partials = [elsewhere(one, number) for number, one in enumerate(arrived)]
    del arrived
    begin = time.process_time()
    (whole,) = merge(partials)
    joined = time.process_time() - begin
    merged_mib = peak()
    count = len(whole.assembled.evidence)
    del partials
    begin = time.process_time()
    evidence = finish(whole.assembled)
    ledger = Ledger.total([book.ledger for book in whole.books])
    captures = [CaptureSummary(o.name, o.format, o.octets, 0, None, None) for o in whole.inventory.origins]
    result = conclude(evidence, ledger, captures, ClusterContext())
    result = replace(result, inputs=InputSummary(tuple(whole.inventory.vantage_points())))
    concluded = time.process_time() - begin
    begin = time.process_time()
    document = build_document(result)
    size = sum(len(piece) for piece in json_pieces(document))
    return {
        "connections": count, "unpack_s": unpacked, "merge_s": joined, "conclude_s": concluded,
        "document_s": time.process_time() - begin, "merged_mib": merged_mib, "peak_mib": peak(), "json_octets": size,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--packets", type=int, default=300_000, help="of each node")
    parser.add_argument("--connections", type=int, default=1_000_000, help="merged")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        function, *arguments = options.inside
        print(json.dumps({"reading": reading, "merging": merging}[function](*arguments)))
        return
    from distributed import LocalCluster

    with tempfile.TemporaryDirectory(prefix="planewire-bench-") as name:
        folder = Path(name)
        paths = write_nodes(folder, options.nodes, options.packets)
        size = sum(path.stat().st_size for path in paths)
        print(
            f"{options.nodes} captures of {options.packets:,} packets, {size / MIB:,.0f} MiB together; "
            f"{os.cpu_count()}-core machine, Python {platform.python_version()}, numpy {np.__version__}\n"
        )
        print("| read by | wall s | CPU s here | MB/s |\n|---|---|---|---|")
        whole = f"{folder}/node-*/*.pcap"
        reports = set()
        for label, extra in (("one process", []), ("--workers 2", ["--workers", "2"])):
            wall, cpu, report = timed([whole, *extra])
            reports.add(report)
            print(f"| {label} | {wall:.1f} | {cpu:.1f} | {size / wall / 1e6:.0f} |", flush=True)
        for workers in (1, 2):
            with LocalCluster(
                n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
            ) as cluster:
                # The second run finds everything imported.
                timed([str(paths[0]), str(paths[1]), "--scheduler", cluster.scheduler_address])
                wall, cpu, report = timed([whole, "--scheduler", cluster.scheduler_address])
            reports.add(report)
            label = f"Dask, {workers} worker process{'es' * (workers > 1)}"
            print(f"| {label} | {wall:.1f} | {cpu:.1f} | {size / wall / 1e6:.0f} |", flush=True)
        print(f"\n{'All reports are the same, octet for octet.' if len(reports) == 1 else 'THE REPORTS DIFFER'}\n")
        partial = str(folder / "partial")
        one = inside("reading", str(paths[0]), partial)
        octets = paths[0].stat().st_size
        print("| a worker, one capture | |\n|---|---|")
        print(f"| connections | {one['connections']:,.0f} |")
        print(f"| CPU | {one['cpu_s']:.2f} s, {octets / one['cpu_s'] / 1e6:.0f} MB/s |")
        print(f"| CPU for a terabyte | {1e12 / octets * one['cpu_s'] / 3600:.1f} hours |")
        print(f"| memory at most | {one['peak_mib']:.0f} MiB, of which {one['start_mib']:.0f} before it read |")
        print(f"| its result | {one['octets'] / one['connections']:.0f} octets a connection |")
        print(
            f"| packing that | {one['pickle_s'] / one['connections'] * 1e6:.1f} s a million connections |\n", flush=True
        )
        print("| who merges | |\n|---|---|")
        for connections in (options.connections // 4, options.connections):
            found = inside("merging", partial, str(connections))
            million = found["connections"] / 1e6
            print(f"| **connections** | **{found['connections']:,.0f}** |")
            for what, seconds in STEPS.items():
                print(f"| {what} | {found[seconds]:.2f} s, {found[seconds] / million:.1f} a million |")
            for what, mib in (("memory, all merged", "merged_mib"), ("memory at most", "peak_mib")):
                print(f"| {what} | {found[mib]:,.0f} MiB, {found[mib] / million:,.0f} a million |", flush=True)


if __name__ == "__main__":
    main()
