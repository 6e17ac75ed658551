"""The opinion of tshark: Wireshark's dissectors over the same file, which it reads itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from analyzer.errors import MissingProgramError, OpinionError
from analyzer.opinions.common import Handshake, Opinion, conversation
from analyzer.protocols.tls import suite_name
from analyzer.registries import TlsVersion
from analyzer.report.text import visible

_FIELDS: Final = (
    "frame.len",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.len",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.plen",
    "ipv6.fraghdr.offset",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "tcp.stream",
    "tls.handshake.type",
    "tls.handshake.version",
    "tls.handshake.extensions.supported_version",
    "tls.handshake.ciphersuite",
    "tls.handshake.extensions_server_name",
    "tls.handshake.random",
)
_RETRY: Final = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
"""Random of a HelloRetryRequest (RFC 8446 4.1.3)."""
_PREFERENCES: Final = (
    # Fragments stay what they are on the wire: the first one is a packet of its conversation.
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "tcp.desegment_tcp_streams:TRUE",
    "tcp.reassemble_out_of_order:TRUE",
    # Without this tshark shows a hello that was sent again as a retransmission, without its fields.
    "tcp.analyze_sequence_numbers:TRUE",
)
_CLIENT_HELLO: Final = "1"
_SERVER_HELLO: Final = "2"
_IPV6_HEADER: Final = 40
_ENDS: Final = frozenset({"icmp", "icmpv6"})
"""Behind these tshark shows the headers of the packet that an error quotes; it was not sent."""


def tshark_path() -> str:
    """Return where tshark is.

    Raises
    ------
    MissingProgramError
        It is not installed.
    """
    path = shutil.which("tshark")
    if path is None:
        raise MissingProgramError("tshark is not installed: install Wireshark's command line (Debian: tshark)")
    return path


def tshark_version(path: str) -> str:
    """Return tshark's version."""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, errors="replace")
    first = (done.stdout.splitlines() or [""])[0]
    return next((word.rstrip(".") for word in first.split() if word[:1].isdigit()), "")


def tshark_opinion(capture: str, tunnels: Sequence[tuple[str, int]] = ()) -> Opinion:
    """Ask tshark about a capture file.

    Parameters
    ----------
    capture : str
    tunnels : sequence of (str, int)
        Tunnel protocols and the UDP ports they run on here: tshark opens only those on registered ports by itself.

    Raises
    ------
    MissingProgramError
        tshark is not installed.
    OpinionError
        It cannot read the file at all.
    """
    program = tshark_path()
    opinion = Opinion(f"tshark {tshark_version(program)}".strip())
    hellos: dict[str, str] = {}
    for row in _rows(program, capture, tunnels, opinion):
        opinion.frames += 1
        _count(row, opinion)
        if row["tls.handshake.type"] and row["tcp.stream"]:
            _note_hello(row, opinion, hellos)
    return opinion


def _rows(program: str, capture: str, tunnels: Sequence[tuple[str, int]], opinion: Opinion) -> Iterator[dict[str, str]]:
    """Fields of each frame; several values of one field are joined by commas, outermost first."""
    command = [program, "-n", "-r", capture, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]
    command += [part for preference in _PREFERENCES for part in ("-o", preference)]
    command += [part for name in _FIELDS for part in ("-e", name)]
    command += [part for protocol, port in tunnels for part in ("-d", f"udp.port=={port},{protocol}")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace") as run:
        assert run.stdout is not None
        assert run.stderr is not None
        for line in run.stdout:
            cells = line.rstrip("\n").split("\t")
            yield dict(zip(_FIELDS, cells + [""] * (len(_FIELDS) - len(cells)), strict=False))
        errors = [line for line in run.stderr.read().splitlines() if "root" not in line and line.strip()]
    if run.returncode and not opinion.frames:
        raise OpinionError(f"tshark cannot read {visible(capture)}: {visible(' '.join(errors))[:300]}")
    if run.returncode:
        opinion.cannot[visible(errors[-1])[:200] if errors else f"tshark ended with status {run.returncode}"] += 1


def _count(row: dict[str, str], opinion: Opinion) -> None:
    """Walk the protocols of a frame from outside in, taking addresses and ports as they come."""
    values = {name: iter(row[name].split(",")) for name in _FIELDS if name.startswith(("ip", "tcp.", "udp."))}
    offsets = f"{row['ip.frag_offset']},{row['ipv6.fraghdr.offset']}".split(",")
    if any(offset not in ("", "0") for offset in offsets):
        opinion.cannot["later fragments name no ports"] += 1
    level, octets = -1, int(row["frame.len"] or 0)
    addresses: tuple[str, str] | None = None
    for protocol in row["frame.protocols"].split(":"):
        if protocol in _ENDS:
            return
        if protocol in ("ip", "ipv6"):
            level += 1
            addresses = (next(values[f"{protocol}.src"], ""), next(values[f"{protocol}.dst"], ""))
            length = next(values["ip.len" if protocol == "ip" else "ipv6.plen"], "")
            if level:
                octets = int(length or 0) + (_IPV6_HEADER if protocol == "ipv6" else 0)
        elif protocol in ("tcp", "udp") and addresses is not None:
            ports = [next(values[f"{protocol}.{end}port"], "") for end in ("src", "dst")]
            if not all(ports):
                return
            one, other = ((a, int(p)) for a, p in zip(addresses, ports, strict=True))
            opinion.count(conversation(level, protocol, one, other), octets)
            addresses = None


def _note_hello(row: dict[str, str], opinion: Opinion, hellos: dict[str, str]) -> None:
    """Pair the ServerHello of a connection with the name that its ClientHello asked for."""
    types, stream = row["tls.handshake.type"].split(","), row["tcp.stream"].split(",")[-1]
    if _CLIENT_HELLO in types:
        hellos[stream] = row["tls.handshake.extensions_server_name"].split(",")[0]
    if _SERVER_HELLO not in types or _CLIENT_HELLO in types or row["tls.handshake.random"].startswith(_RETRY):
        return
    version = (row["tls.handshake.extensions.supported_version"] or row["tls.handshake.version"]).split(",")[0]
    suite = row["tls.handshake.ciphersuite"].split(",")[0]
    level = [p for p in row["frame.protocols"].split(":") if p in ("ip", "ipv6")]
    kind = level[-1]
    one, other = (
        (row[f"{kind}.{end}"].split(",")[-1], int(row[f"tcp.{end}port"].split(",")[-1])) for end in ("src", "dst")
    )
    shaken = Handshake(TlsVersion(int(version, 16)).label, suite_name(int(suite, 16)), visible(hellos.get(stream, "")))
    opinion.handshakes.setdefault(conversation(len(level) - 1, "tcp", one, other), []).append(shaken)
