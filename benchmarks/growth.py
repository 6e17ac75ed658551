"""How time and memory grow: with packets of the same connections, and with connections. Markdown, and a picture.

    python benchmarks/growth.py [--packets 1,10,100] [--connections 1,10,100,1000,5000] [--picture docs/growth.svg]

Packets are counted in millions, connections in thousands. The scaled capture goes through a pipe and is never stored.
With ``--keep FILE`` each run is written down as soon as it has ended, and not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stages import compile_modules

ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Point:
    """One run: packets, connections, CPU seconds, peak resident MiB."""

    packets: int
    connections: int
    cpu: float
    resident: float

    @property
    def microseconds(self) -> float:
        """CPU time a packet."""
        return self.cpu / self.packets * 1e6


def count(result: Path) -> tuple[int, int]:
    """Frames and connections of a report, by its last part: the whole takes gigabytes to read."""
    with result.open("rb") as file:
        file.seek(max(0, result.stat().st_size - (16 << 20)))
        text = file.read().decode()
    frames = re.search(r'"ledger":\{[^{}]*(?:\{[^{}]*\}[^{}]*)*"frames":(\d+)', text)
    connections = re.search(r'"summary":\{.*?"connections":(\d+)', text)
    if frames is None or connections is None:
        raise SystemExit("the report ends otherwise than was thought")
    return int(frames[1]), int(connections[1])


def measure(sources: list[Path], packets: int, connections: int | None) -> Point:
    """Analyse a scaled capture through a pipe; without `connections` they grow with the packets."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    generate = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), "-", *map(str, sources)]
    generate += ["--packets", str(packets)] + (["--connections", str(connections)] if connections else [])
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        options = ["-q", "-", "--json", str(result), "--fail-on", "never", "--max-flows", "20000000"]
        with subprocess.Popen(generate, stdout=subprocess.PIPE, env=environment) as generator:
            audit = subprocess.Popen(
                [sys.executable, "-m", "analyzer", "analyze", *options], stdin=generator.stdout, cwd=ROOT
            )
            if generator.stdout is not None:
                generator.stdout.close()
            _, status, usage = os.wait4(audit.pid, 0)
            audit.returncode = os.waitstatus_to_exitcode(status)
        if audit.returncode != 0:
            raise SystemExit(f"planewire ended with status {audit.returncode}")
        frames, connections = count(result)
    return Point(frames, connections, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


class Runs:
    """Runs made, and those of an earlier time, from a file of JSON lines."""

    def __init__(self, sources: list[Path], kept: Path | None) -> None:
        self._sources = sources
        self._file = kept
        lines = kept.read_text().splitlines() if kept is not None and kept.exists() else []
        self._known = [json.loads(line) for line in lines]

    def point(self, packets: int, connections: int | None) -> Point:
        """The run of so many packets and connections."""
        asked = {"asked_packets": packets, "asked_connections": connections}
        for known in self._known:
            if all(known[name] == value for name, value in asked.items()):
                return Point(*(known[name] for name in Point.__dataclass_fields__))
        point = measure(self._sources, packets, connections)
        self._known.append({**asked, **vars(point)})
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps(self._known[-1]) + "\n")
        return point


HEADING: Final = "| packets | connections | CPU s | us a packet | peak MiB |\n|---|---|---|---|---|"


def row(p: Point) -> str:
    """Markdown."""
    return f"| {p.packets:,} | {p.connections:,} | {p.cpu:.1f} | {p.microseconds:.2f} | {p.resident:.0f} |"


_WIDTH, _HEIGHT, _MARGIN = 320, 180, 52


def _panel(left: int, title: str, below: str, xs: list[int], ys: list[float]) -> str:
    """One curve; both axes begin at zero decades and zero."""
    highest = max(ys) * 1.25
    low, high = min(xs), max(xs)

    def x(value: float) -> float:
        share = 0.5 if low == high else (_log(value) - _log(low)) / (_log(high) - _log(low))
        return left + _MARGIN + share * (_WIDTH - 2 * _MARGIN)

    def y(value: float) -> float:
        return _HEIGHT - 40 - value / highest * (_HEIGHT - 80)

    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))
    marks = "".join(
        f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3"/>'
        f'<text x="{x(a):.1f}" y="{y(b) - 8:.1f}" text-anchor="middle">{b:.3g}</text>'
        f'<text x="{x(a):.1f}" y="{_HEIGHT - 22}" text-anchor="middle">{_short(a)}</text>'
        for a, b in zip(xs, ys, strict=True)
    )
    base = f'<path d="M{left + 24} {y(0):.1f}H{left + _WIDTH - 24}" stroke="#888"/>'
    heading = f'<text x="{left + _WIDTH / 2}" y="20" text-anchor="middle" font-weight="bold">{title}</text>'
    foot = f'<text x="{left + _WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{below}</text>'
    return f'{heading}{foot}{base}<polyline points="{points}" fill="none" stroke="#2a6db0" stroke-width="2"/>{marks}'


def _log(value: float) -> float:
    from math import log10

    return log10(value)


def _short(value: int) -> str:
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return str(value)


def picture(by_packets: list[Point], by_connections: list[Point]) -> str:
    """Four curves as SVG."""
    panels = [
        ("CPU time a packet, us", "packets, connections fixed", by_packets, "packets", "microseconds"),
        ("Peak memory, MiB", "packets, connections fixed", by_packets, "packets", "resident"),
        ("CPU time a packet, us", "connections", by_connections, "connections", "microseconds"),
        ("Peak memory, MiB", "connections", by_connections, "connections", "resident"),
    ]
    drawn = "".join(
        _panel(i * _WIDTH, title, below, [getattr(p, x) for p in points], [getattr(p, y) for p in points])
        for i, (title, below, points, x, y) in enumerate(panels)
        if points
    )
    width = _WIDTH * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="{width}" height="{_HEIGHT}" fill="#fff"/><g fill="#222">{drawn}</g></svg>\n'
    )


def numbers(text: str) -> list[float]:
    """``1,10`` as numbers."""
    return [float(part) for part in text.split(",") if part]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, action="append", default=[], help="instead of the mix; may be repeated")
    parser.add_argument("--packets", type=numbers, default=[1, 10, 100], metavar="MILLIONS")
    parser.add_argument("--connections", type=numbers, default=[1, 10, 100, 1000, 5000], metavar="THOUSANDS")
    parser.add_argument("--fixed", type=int, default=5000, metavar="N", help="connections in the first series")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="runs made, one a line")
    parser.add_argument("--picture", type=Path, help="write the curves as SVG")
    options = parser.parse_args()
    compile_modules()
    runs = Runs([path.resolve() for path in options.source], options.keep)
    print(f"Packets, the connections fixed:\n\n{HEADING}", flush=True)
    by_packets = []
    for millions in options.packets:
        by_packets.append(runs.point(int(millions * 1e6), options.fixed))
        print(row(by_packets[-1]), flush=True)
    unit = runs.point(200_000, None)
    share = unit.packets / unit.connections
    print(f"\nConnections, the packets of each fixed:\n\n{HEADING}", flush=True)
    by_connections = []
    for thousands in options.connections:
        by_connections.append(runs.point(int(thousands * 1e3 * share), None))
        print(row(by_connections[-1]), flush=True)
    if options.picture:
        options.picture.write_text(picture(by_packets, by_connections))


if __name__ == "__main__":
    main()
