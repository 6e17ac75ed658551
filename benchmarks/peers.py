"""Programs to compare with: how each is run on a capture, whether it is installed, and its version.

    python benchmarks/peers.py dpkt FILE

runs one of those that are a loop in Python.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Peer:
    """A program on the same file; ``{file}`` and ``{folder}`` (an empty one) stand for paths in ``command``.

    ``slow``: it takes a minute or more where planewire takes seconds.
    """

    name: str
    command: tuple[str, ...]
    slow: bool = False
    version: tuple[str, ...] = ()

    @property
    def is_loop(self) -> bool:
        """Whether it is one of `LOOPS`."""
        return self.command[0] in LOOPS

    def installed(self, python: str) -> bool:
        """Whether it can be run here."""
        if not self.is_loop:
            return shutil.which(self.command[0]) is not None
        if python == sys.executable:
            return importlib.util.find_spec(self.command[0]) is not None
        return subprocess.run([python, "-c", f"import {self.command[0]}"], capture_output=True).returncode == 0

    def line(self, python: str, file: Path, folder: Path) -> list[str]:
        """The command to run."""
        if self.is_loop:
            return [python, __file__, self.command[0], str(file)]
        return [part.replace("{file}", str(file)).replace("{folder}", str(folder)) for part in self.command]

    def version_text(self, python: str) -> str:
        """First line of what it says about its version; empty where it says nothing."""
        if self.is_loop:
            command = [python, "-c", f"import importlib.metadata as m; print(m.version({self.command[0]!r}))"]
        else:
            command = [self.command[0], *(self.version or ("--version",))]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        lines = [line.strip() for line in (run.stdout + run.stderr).splitlines() if any(c.isdigit() for c in line)]
        return lines[0][:60] if lines else ""


def _loop_dpkt(path: str) -> int:
    import dpkt

    segments = 0
    with open(path, "rb") as file:
        for _, octets in dpkt.pcap.Reader(file):
            packet = dpkt.ethernet.Ethernet(octets).data
            segments += isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.tcp.TCP)
    return segments


def _loop_scapy(path: str) -> int:
    from scapy.layers.inet import TCP
    from scapy.utils import PcapReader

    with PcapReader(path) as reader:
        return sum(TCP in packet for packet in reader)


def _loop_nfstream(path: str) -> int:
    nfstream = importlib.import_module("nfstream")
    return sum(1 for _ in nfstream.NFStreamer(source=path, n_dissections=20, n_meters=1))


def _loop_cypcap(path: str) -> int:
    cypcap = importlib.import_module("cypcap")
    with cypcap.open_offline(path) as capture:
        return sum(1 for _ in capture)


LOOPS: Final[dict[str, Callable[[str], int]]] = {
    "dpkt": _loop_dpkt,
    "scapy": _loop_scapy,
    "nfstream": _loop_nfstream,
    "cypcap": _loop_cypcap,
}

_TLS_FIELDS: Final = ("tls.handshake.type", "tls.handshake.extensions_server_name", "tls.handshake.ciphersuite")

PEERS: Final = (
    Peer("tcpdump -r F -w /dev/null", ("tcpdump", "-r", "{file}", "-w", "/dev/null")),
    Peer("capinfos", ("capinfos", "{file}")),
    Peer("nfpcapd", ("nfpcapd", "-r", "{file}", "-w", "{folder}"), version=("-V",)),
    Peer("argus", ("argus", "-r", "{file}", "-w", "/dev/null"), version=("-h",)),
    Peer("ndpiReader", ("ndpiReader", "-i", "{file}", "-q"), version=("-h",)),
    Peer("NFStream, 20 dissections", ("nfstream",)),
    Peer("cypcap, a loop that only reads", ("cypcap",)),
    Peer("dpkt, a loop that only decodes", ("dpkt",), slow=True),
    Peer("tshark -z conv,tcp", ("tshark", "-r", "{file}", "-q", "-z", "conv,tcp"), slow=True),
    Peer(
        "tshark, TLS fields",
        ("tshark", "-r", "{file}", "-Y", "tls.handshake", "-T", "fields", *(p for f in _TLS_FIELDS for p in ("-e", f))),
        slow=True,
    ),
    Peer("scapy PcapReader", ("scapy",), slow=True),
)


def planewire_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("planewire")
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    print(LOOPS[sys.argv[1]](sys.argv[2]))
