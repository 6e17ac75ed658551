"""What `--workers` is worth for one capture: wall-clock and CPU time for 1, 2 and more processes, as Markdown.

    python benchmarks/workers.py FILE [--runs 5] [--workers 1 2 4]

The numbers of processes take turns, and each run is compared with the one of one process in the same turn. CPU time is
that of all processes together, start-up included; memory that of the largest one. All reports must be the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path

from run import Run, measure, planewire
from stages import compile_modules


def spread(values: Iterable[float]) -> str:
    """Median, least and most."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):.2f} ({ordered[0]:.2f}, {ordered[-1]:.2f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    capture, counts = options.capture.resolve(), sorted({1, *options.workers})
    compile_modules()
    runs: dict[int, list[Run]] = {count: [] for count in counts}
    reports: dict[int, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        for _ in range(options.runs):
            for count in counts:
                runs[count].append(measure([*planewire(capture, result), "--workers", str(count)]))
                reports[count] = result.read_bytes()
    if len(set(reports.values())) > 1:
        raise SystemExit("the reports differ")
    print(f"{capture.name}, {options.runs} paired runs, {os.cpu_count()} processors: median (min, max)\n")
    print("| processes | wall s | over one | CPU s | over one | MiB, the largest process |\n|---|---|---|---|---|---|")
    for count in counts:
        pairs = list(zip(runs[count], runs[1], strict=True))
        cells = [
            spread(run.wall for run in runs[count]),
            spread(run.wall / one.wall for run, one in pairs),
            spread(run.cpu for run in runs[count]),
            spread(run.cpu / one.cpu for run, one in pairs),
            f"{max(run.resident for run in runs[count]):.0f}",
        ]
        print(f"| {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
