"""Ratios against other programs on the same file in the same run, as Markdown.

    python benchmarks/run.py [--packets 3000000] [--runs 5] [--source CAPTURE]

Programs take turns, so that a machine whose speed drifts drifts for all of them. CPU time is user plus system of the
whole process, start-up included; a program that is not installed is said to be so.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS: dict[str, list[str]] = {
    "tcpdump -r F -w /dev/null": ["tcpdump", "-r", "{file}", "-w", "/dev/null"],
    "capinfos": ["capinfos", "{file}"],
    "tshark -z conv,tcp": ["tshark", "-r", "{file}", "-q", "-z", "conv,tcp"],
}
OURS = "planewire analyze --json"


def cpu_seconds(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak resident MiB of one run of `command`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=3_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--source", type=Path, default=ROOT / "captures" / "01-default-insecure-kubelet.pcap")
    parser.add_argument("--slow", action="store_true", help="with the peers that take minutes (tshark)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target, result = Path(folder) / "scaled.pcap", Path(folder) / "result.json"
        generate = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), str(options.source), str(target)]
        subprocess.run(
            [*generate, "--packets", str(options.packets)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        ours = [
            sys.executable,
            "-m",
            "analyzer",
            "analyze",
            "-q",
            str(target),
            "--json",
            str(result),
            "--fail-on",
            "never",
        ]
        peers = {
            name: [part.replace("{file}", str(target)) for part in command]
            for name, command in PEERS.items()
            if shutil.which(command[0]) and (options.slow or command[0] != "tshark")
        }
        seconds: dict[str, list[float]] = {OURS: [], **{name: [] for name in peers}}
        peak = 0.0
        for turn in range(options.runs + 1):
            for name, command in {OURS: ours, **peers}.items():
                spent, resident = cpu_seconds(command)
                if turn:  # the first turn warms the page cache
                    seconds[name].append(spent)
                    peak = max(peak, resident if name == OURS else 0.0)
        octets = target.stat().st_size
    print(f"{options.packets:,} packets, {octets / 1e6:,.0f} MB, scaled from {options.source.name};", end=" ")
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, {options.runs} paired runs\n")
    print("| program | CPU s, median (min, max) | planewire's CPU time over it, median (min, max) |\n|---|---|---|")
    for name, values in seconds.items():
        ratios = sorted(a / b for a, b in zip(seconds[OURS], values, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f})" if name != OURS else ""
        print(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f}, {max(values):.2f}) | {spread} |")
    for name in PEERS.keys() - peers.keys():
        print(f"| {name} | not run: not installed, or slow and --slow not given | |")
    print(f"\nPeak resident memory of planewire: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
