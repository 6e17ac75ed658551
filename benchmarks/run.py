"""Ratios against other programs on the same file in the same run, as Markdown.

    python benchmarks/run.py [--packets 3000000] [--connections 50000] [--runs 5] [--source CAPTURE] [--slow]

Programs take turns, so that a machine whose speed drifts drifts for all of them, and each is compared with the
planewire of its own turn. CPU time is user plus system of the whole process, start-up included; a program that is not
installed is said to be so.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from peers import PEERS, Peer, planewire_version
from stages import compile_modules

ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Run:
    """One run of a program: CPU and wall seconds, peak resident MiB."""

    cpu: float
    wall: float
    resident: float


@dataclass
class Series:
    """Runs of a program, each beside the run of planewire in the same turn."""

    own: list[Run] = field(default_factory=list)
    ours: list[Run] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Planewire's CPU time over the program's, ascending."""
        return sorted(ours.cpu / own.cpu for own, ours in zip(self.own, self.ours, strict=True))


def measure(command: list[str]) -> Run:
    """Run `command` and measure it.

    Raises
    ------
    SystemExit
        It ended with another status than 0 or 1.
    """
    begin = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return Run(usage.ru_utime + usage.ru_stime, time.monotonic() - begin, usage.ru_maxrss / 1024)


def generate(sources: list[Path], target: Path, packets: int, connections: int) -> Run:
    """Write the scaled capture; how long that took."""
    command = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), str(target), *map(str, sources)]
    return measure([*command, "--packets", str(packets), "--connections", str(connections)])


def planewire(target: Path, result: Path) -> list[str]:
    """The command that is measured: a full audit with JSON."""
    options = ["-q", str(target), "--json", str(result), "--fail-on", "never"]
    return [sys.executable, "-m", "analyzer", "analyze", *options]


def compare(
    ours: list[str], peers: dict[Peer, list[str]], runs: int, slow_runs: int
) -> tuple[list[Run], dict[Peer, Series]]:
    """Let the programs take turns; the first turn warms the page cache and does not count."""
    all_ours: list[Run] = []
    series = {peer: Series() for peer in peers}
    for turn in range(runs + 1):
        mine = measure(ours)
        if turn:
            all_ours.append(mine)
        for peer, command in peers.items():
            if peer.slow and not 0 < turn <= slow_runs:
                continue
            run = measure(command)
            if turn:
                series[peer].own.append(run)
                series[peer].ours.append(mine)
    return all_ours, series


def spread(values: list[float], digits: int = 2) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}, {max(values):.{digits}f})"


def table(ours: list[Run], series: dict[Peer, Series], missing: list[tuple[Peer, str]], python: str) -> str:
    """The Markdown table."""
    lines = [
        "| program | CPU s, median (min, max) | planewire's CPU time over it | so planewire is | MiB | version |",
        "|---|---|---|---|---|---|",
        f"| **planewire** analyze --json | {spread([r.cpu for r in ours])} | | | {max(r.resident for r in ours):.0f} "
        f"| {planewire_version()} |",
    ]
    for peer, runs in series.items():
        if not runs.own:
            continue
        ratios = runs.ratios()
        middle = statistics.median(ratios)
        verdict = f"{1 / middle:.1f}x faster" if middle < 1 else f"{middle:.1f}x slower"
        lines.append(
            f"| {peer.name} | {spread([r.cpu for r in runs.own])} | {spread(ratios)} | {verdict} "
            f"| {max(r.resident for r in runs.own):.0f} | {peer.version_text(python)} |"
        )
    lines += [f"| {peer.name} | {why} | | | | |" for peer, why in missing]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=3_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--connections", type=int, default=50_000)
    parser.add_argument("--source", type=Path, action="append", default=[], help="instead of the mix; may be repeated")
    parser.add_argument("--slow", action="store_true", help="with the peers that take minutes (tshark, dpkt, scapy)")
    parser.add_argument("--slow-runs", type=int, default=1, metavar="N", help="runs of each of those (default 1)")
    parser.add_argument("--python", default=sys.executable, help="interpreter for the peers that are Python packages")
    options = parser.parse_args()
    compile_modules()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        target, spill = folder / "scaled.pcap", folder / "spill"
        spill.mkdir()
        sources = [path.resolve() for path in options.source]
        made = generate(sources, target, options.packets, options.connections)
        peers: dict[Peer, list[str]] = {}
        missing: list[tuple[Peer, str]] = []
        for peer in PEERS:
            if not peer.installed(options.python):
                missing.append((peer, "not installed"))
            elif peer.slow and not options.slow:
                missing.append((peer, "not run: slow, and --slow was not given"))
            else:
                peers[peer] = peer.line(options.python, target, spill)
        ours, series = compare(planewire(target, folder / "result.json"), peers, options.runs, options.slow_runs)
        octets = target.stat().st_size
    print(f"{options.packets:,} packets, {options.connections:,} connections, {octets / 1e6:,.0f} MB,", end=" ")
    print(f"generated at {octets / 1e6 / made.wall:,.0f} MB/s;", end=" ")
    print(f"{os.cpu_count()}-core machine, Python {platform.python_version()}, {options.runs} paired runs\n")
    print(table(ours, series, missing, options.python))
    print(f"\nWall time of planewire: {spread([r.wall for r in ours])} s")


if __name__ == "__main__":
    main()
