"""The highest rate without loss, of planewire live and of other programs that capture, as Markdown.

    sudo python benchmarks/live.py [--packets 1000000] [--seconds 6] [--rounds 3] [--python INTERPRETER] [--write]

A scaled lab recording (`generate.py`) is sent by tcpreplay from one network namespace to another, over a veth pair, at
a rate that rises until a program loses packets and is then narrowed down. Programs take turns. What the interface
received is read from the interface, so that a sender which cannot keep the rate is not taken for a receiver that lost
something; for planewire it is checked, at every rate, that received = seen + dropped.

On two processors the sender, in whose time the kernel delivers what it sent, takes one of them; where the sender is the
bound, the table says so. Sender and receiver run at real-time priority (SCHED_RR): other work on the machine waits.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = ROOT / "docs" / "live.md"
BUFFER_MIB: Final = 64
NARROWED: Final = 1.08
"""The search ends where the rate that is too high is at most so many times the one that is not."""
REALTIME: Final = ("chrt", "--rr", "5")
SHORTFALL: Final = 0.93
"""Share of the rate asked for below which the sender is the bound."""

_SCAPY: Final = """
import signal, sys
from scapy.all import AsyncSniffer
seen = 0
def count(packet):
    global seen
    seen += 1
sniffer = AsyncSniffer(iface="veth0", store=False, prn=count)
sniffer.start()
signal.sigwait([signal.SIGINT])
sniffer.stop()
print(seen)
"""
_NFSTREAM: Final = """
from nfstream import NFStreamer
for flow in NFStreamer(source="veth0", n_dissections=20, performance_report=1):
    pass
"""
"""It prints every second what its meters have counted: flows that have not ended are not told on an interrupt. The
count of packets lags in steps, so that its loss is what it says the kernel dropped."""


@dataclass
class Trial:
    """One program at one rate: packets, of which `dropped` is what the program itself says it lost (None: does not)."""

    rate: float
    asked: float
    received: int
    seen: int
    dropped: int | None
    cpu_share: float
    says_loss: bool = False

    @property
    def lost(self) -> int:
        return self.dropped if self.says_loss and self.dropped is not None else self.received - self.seen

    @property
    def sender_is_bound(self) -> bool:
        return self.rate < SHORTFALL * self.asked


@dataclass
class Program:
    """How a program is started, and how what it saw is read."""

    name: str
    command: list[str]
    first_rate: int  #: packets a second to begin with
    says_loss: bool = False  #: it counts late, and its own word for what was lost is taken
    best: list[Trial] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    def installed(self) -> bool:
        return shutil.which(self.command[0]) is not None

    def read(self, output: str, folder: Path) -> tuple[int, int | None]:
        """Packets seen and dropped."""
        if self.name == "planewire live":
            document = json.loads((folder / "report.json").read_text())
            interfaces = document["captures"][0]["interfaces"]
            return int(document["ledger"]["frames"]), sum(interface["dropped"] or 0 for interface in interfaces)
        if self.name == "tcpdump":
            return _number(r"(\d+) packets? captured", output), _number(r"(\d+) packets? dropped by kernel", output)
        if self.name == "NFStream":
            told = [json.loads(line) for line in output.splitlines() if line.startswith("{")][-1]
            return told["packets_processed"] + told["packets_ignored"], told["packets_dropped_filtered_by_kernel"]
        return int(output.split()[-1]), None


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"cannot be read: {text!r}")
    return int(found[1])


def programs(python: str, folder: Path) -> list[Program]:
    own = [sys.executable, "-m", "analyzer", "live", "-i", "veth0", "--buffer", f"{BUFFER_MIB}MiB", "--quiet"]
    return [
        Program("planewire live", [*own, "--json", str(folder / "report.json"), "--fail-on", "never"], 64_000),
        Program(
            "tcpdump", ["tcpdump", "-i", "veth0", "-B", f"{BUFFER_MIB}000", "-Z", "root", "-w", "/dev/null"], 64_000
        ),
        Program("scapy", [python, "-c", _SCAPY], 2_000),
        Program("NFStream", [python, "-c", _NFSTREAM], 8_000, says_loss=True),
    ]


def ip(*command: str) -> str:
    return subprocess.run(["ip", *command], check=True, capture_output=True, text=True).stdout


@contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """Two namespaces with a veth pair between them."""
    names = (f"pw-bench-{os.getpid()}-a", f"pw-bench-{os.getpid()}-b")
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
            ip("netns", "exec", name, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        ip("link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "name", "veth0", "netns", names[1])
        for name in names:
            # Recordings hold segments that offloading made, larger than any frame.
            ip("-n", name, "link", "set", "veth0", "mtu", "65535", "up")
        yield names
    finally:
        for name in made:
            ip("netns", "delete", name)


def counted(space: str) -> int:
    """Packets that the interface received."""
    (link,) = json.loads(ip("-n", space, "-j", "-s", "link", "show", "dev", "veth0"))
    return int(link["stats64"]["rx"]["packets"])


def cpu_seconds(process: int) -> float:
    """User and system time of a process and its children that are there."""
    seconds = 0.0
    for number in (process, *_children(process)):
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def _children(process: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *_children(child)]
    return found


def trial(
    program: Program, spaces: tuple[str, str], recording: Path, folder: Path, rate: float, seconds: float
) -> Trial:
    """Send at `rate` for about so many seconds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    enter = [*REALTIME, "ip", "netns", "exec"]
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [*enter, spaces[1], *program.command], stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment
        )
        try:
            _wait_for_socket(spaces[1], process)
            time.sleep(1.0)
            before, busy = counted(spaces[1]), cpu_seconds(process.pid)
            packets = max(int(rate * seconds), 1000)
            send = ["tcpreplay", "-q", "-K", "-i", "veth0", f"--pps={rate:.0f}", f"--limit={packets}", "--loop=1000"]
            sent = subprocess.run(
                [*enter, spaces[0], *send, str(recording)], capture_output=True, text=True, check=False, timeout=600
            )
            took = float(re.search(r"sent in ([0-9.]+) seconds", sent.stdout)[1])  # type: ignore[index]
            busy = cpu_seconds(process.pid) - busy
            received = counted(spaces[1]) - before
            time.sleep(2.5)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(300)
        output.seek(0)
        seen, dropped = program.read(output.read(), folder)
    return Trial(received / took, rate, received, seen, dropped, busy / took, program.says_loss)


def _wait_for_socket(space: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a packet socket is open in the namespace."""
    deadline = time.monotonic() + 60
    while len(ip("netns", "exec", space, "cat", "/proc/net/packet").splitlines()) < 2:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{process.args!r} does not capture")
        time.sleep(0.1)


def search(program: Program, spaces: tuple[str, str], recording: Path, folder: Path, seconds: float) -> Trial:
    """Double the rate until something is lost, then halve the difference; the best trial without loss."""
    low, high, best = 0.0, 0.0, None
    rate = float(program.first_rate)
    while not high or high / low > NARROWED:
        one = trial(program, spaces, recording, folder, rate, seconds)
        program.trials.append(one)
        exact = "" if one.dropped is None else f", says {one.dropped} dropped"
        print(
            f"  {program.name}: {one.rate:,.0f}/s: {one.received} received, {one.lost} lost{exact}, "
            f"{100 * one.cpu_share:.0f} % CPU",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        if program.name == "planewire live" and one.received != one.seen + (one.dropped or 0):
            raise SystemExit("planewire live: received is not seen + dropped")
        if one.lost <= 0:
            low, best = rate, one
            if one.sender_is_bound:
                break
        else:
            high = rate
            if not low:
                low = rate / 8
        rate = rate * 2 if not high else (low * high) ** 0.5
    if best is None:
        raise SystemExit(f"{program.name} loses packets at every rate")
    return best


def measured(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def table(tried: list[Program], missing: list[str], arguments: argparse.Namespace, octets: float) -> str:
    """The result as Markdown."""
    ours = next(program for program in tried if program.name == "planewire live")
    machine = f"{platform.machine()}, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    lines = [
        f"Measured by `sudo python benchmarks/live.py --rounds {arguments.rounds} --seconds {arguments.seconds:g}` on "
        f"a {os.cpu_count()}-core virtual machine ({machine}): scaled lab traffic of {octets:.0f} octets a packet,",
        f"{arguments.connections:,} connections in {arguments.packets:,} packets, tcpreplay over a veth pair, a buffer "
        f"of {BUFFER_MIB} MiB where the program lets one say so. Where the sender was the bound, the program may be "
        "faster than that.",
        "",
        "| program | packets/s without loss: median (least to most) | planewire is | CPU at that rate |",
        "|---|---|---|---|",
    ]
    for program in tried:
        rates = [one.rate for one in program.best]
        ratios = [our.rate / own.rate for our, own in zip(ours.best, program.best, strict=True)]
        bound = ", bound by the sender" if all(one.sender_is_bound for one in program.best) else ""
        share = 100 * statistics.median(one.cpu_share for one in program.best)
        ratio = "" if program is ours else f"{statistics.median(ratios):.2f} times as fast"
        lines.append(f"| {program.name} | {measured(rates)}{bound} | {ratio} | {share:.0f} % of a core |")
    lines += [f"| {name} | not installed | | |" for name in missing]
    lossy = [one for one in ours.trials if one.lost]
    lines += [
        "",
        f"In {len(ours.trials)} runs of planewire live, at all rates, what the interface received was what was seen "
        f"plus what was reported as dropped, packet for packet; packets were dropped in {len(lossy)} of them.",
    ]
    return "\n".join(lines) + "\n"


def at_ten_thousand(program: Program, spaces: tuple[str, str], recording: Path, folder: Path) -> str:
    """CPU at the rate of a busy node."""
    one = trial(program, spaces, recording, folder, 10_000, 20)
    share = 100 * one.cpu_share
    return f"At 10,000 packets/s planewire live takes {share:.1f} % of a core (20 s, start-up not counted).\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=17_000)
    parser.add_argument("--seconds", type=float, default=6, help="of sending, at each rate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], metavar="PROGRAM")
    parser.add_argument("--python", default=sys.executable, help="interpreter for the peers that are Python packages")
    parser.add_argument("--write", action="store_true", help=f"put the result into {DOCUMENT.name}")
    arguments = parser.parse_args()
    # Programs started from here are ended by it; a shell has those that run in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if shutil.which("tcpreplay") is None or os.geteuid() != 0:
        raise SystemExit("needs tcpreplay, and root to make network namespaces")
    with tempfile.TemporaryDirectory() as name, namespaces() as spaces:
        folder = Path(name)
        recording = folder / "scaled.pcap"
        generate = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), str(recording)]
        size = ["--packets", str(arguments.packets), "--connections", str(arguments.connections)]
        subprocess.run([*generate, *size], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        octets = recording.stat().st_size / arguments.packets - 16
        wanted = [p for p in programs(arguments.python, folder) if not arguments.only or p.name in arguments.only]
        tried = [program for program in wanted if _is_there(program, arguments.python)]
        missing = [program.name for program in wanted if program not in tried]
        for _ in range(arguments.rounds):
            for program in tried:
                program.best.append(search(program, spaces, recording, folder, arguments.seconds))
        text = table(tried, missing, arguments, octets) + "\n" + at_ten_thousand(tried[0], spaces, recording, folder)
    print(text)
    if arguments.write:
        put_into_document(text)


def _is_there(program: Program, python: str) -> bool:
    package = {"scapy": "scapy", "NFStream": "nfstream"}.get(program.name)
    if package is None:
        return program.installed()
    if python == sys.executable:
        return importlib.util.find_spec(package) is not None
    return subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0


def put_into_document(text: str) -> None:
    """Replace what stands between the markers of the document."""
    begin, end = "<!-- benchmarks/live.py -->\n", "<!-- end -->\n"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    _, _, after = rest.partition(end)
    DOCUMENT.write_text(before + begin + "\n" + text + "\n" + end + after)


if __name__ == "__main__":
    main()
