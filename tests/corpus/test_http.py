"""Request lines, status lines and gRPC paths are those tshark reads, over every public capture and the lab's.

For the public captures tshark's reading lies beside them (`oracle-tshark/http.tsv`). A message counts once for each
connection and direction, as the reader keeps it. Whatever differs must be one of the differences named here.
"""

from __future__ import annotations

import csv
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import dpkt
import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.decode.transport import TCP
from analyzer.errors import PlanewireError
from analyzer.pipeline import Limits, Pipeline
from analyzer.protocols.credentials import without_secrets
from analyzer.protocols.evidence import Evidence
from tests.builders import chunk
from tests.conftest import LAB, SHARED

PUBLIC = SHARED / "public"
ORACLE = PUBLIC / "oracle-tshark" / "http.tsv"
LAB_FOLDER = SHARED / "k8s" if (SHARED / "k8s").is_dir() else LAB
PREFIX: Final = 200
"""Characters compared of a target: both readings are cut somewhere behind that."""

UNREADABLE: Final = {
    "zeek/Traces/http/261/variant-03-cl_negative.pcap": "behind a Content-Length that is no number, in one segment",
    "zeek/Traces/http/http-09-content-length-confusion.pcap": "HTTP/0.9: a request line without a version",
    "zeek/Traces/http/no-uri.pcap": "a request line without a target",
    "zeek/Traces/tcp/payload-synack.pcap": "octets in a SYN+ACK, from port 80 to port 80",
    "arkime/socks5-reverse.pcap": "inside SOCKS, which is not read",
    "libpcap/AH-IPcomp-IPv4.pcap": "compressed by IPComp (RFC 3173), which is not undone",
    "wireshark-notes/tls/tls-null.pcapng": "inside TLS without encryption, whose records are not joined",
    "suricata-verify/http-connect/http-connect-simple/input.pcap": "a stray line end is the tunnel's first octet",
}
"""Captures in which tshark reads requests that are not read here, and why."""
ACROSS_SEGMENTS: Final = {
    "suricata-verify/tcp-urgp-04-2byte-XY/tcp-urgent-2byte-XY.pcap": "urgent octets, which stay in place (RFC 6093)",
    "zeek/Traces/http/261/variant-09-te_obs_fold.pcap": "tshark does not undo obsolete folding",
}
"""Captures with a request that tshark does not read and that is not in them in one piece, and why."""


class Line(NamedTuple):
    """A request (method and target), a status line, or an HTTP/2 path, and the ports it went between."""

    ports: tuple[str, str]
    kind: str
    text: str


def shown(target: str) -> str:
    return without_secrets(target.encode("latin-1", "replace"))[:PREFIX]


def last(value: str) -> str:
    """Of a tunnelled packet tshark names every layer; the innermost one counts."""
    return value.split(",")[-1]


def expected(rows: Iterable[Mapping[str, str]]) -> set[Line]:
    lines: set[Line] = set()
    for row in rows:
        ports = last(row["sport"]), last(row["dport"])
        methods, targets = [row["method"]], [row["uri"]]
        if "," in row["method"]:
            methods, targets = row["method"].split(","), row["uri"].split(",")
        if row["http2_path"]:
            lines |= {Line(ports, "http/2", shown(path)) for path in row["http2_path"].split(",")}
        elif row["method"]:
            lines |= {Line(ports, m, shown(t)) for m, t in zip(methods, targets, strict=False)}
        lines |= {Line(ports, "status", status) for status in row["status"].split(",") if status}
    return lines


def found(evidence: Evidence) -> set[Line]:
    lines: set[Line] = set()
    for message in evidence.cleartext.http:
        client, server = map(str, evidence.flows.port[message.flow].tolist())
        if message.from_client:
            kind = "http/2" if message.version == "2" else message.method
            lines.add(Line((client, server), kind, message.target[:PREFIX]))
        elif message.version != "2":
            lines.add(Line((server, client), "status", str(message.status)))
    return lines


@cache
def oracle() -> dict[str, list[dict[str, str]]]:
    by_file: dict[str, list[dict[str, str]]] = defaultdict(list)
    with ORACLE.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            by_file[row["file"]].append(row)
    return by_file


@cache
def evidence_of(path: Path) -> Evidence | None:
    try:
        with open_capture(str(path)) as reader:
            return run(reader).audit.evidence
    except PlanewireError:
        return None


def is_tcp(line: Line, evidence: Evidence) -> bool:
    flows = evidence.flows
    ports = {tuple(map(str, pair)) for pair in flows.port[flows.protocol == TCP].tolist()}
    return line.ports in ports or line.ports[::-1] in ports


def explained(line: Line, file: str, evidence: Evidence, ours: set[Line]) -> str:
    """Why a line that tshark reads is not among `ours`; empty where nothing explains it."""
    if not is_tcp(line, evidence):
        return "HTTP over UDP (SSDP), which is no connection"
    if file in UNREADABLE:
        return UNREADABLE[file]
    if line.kind == "status" and len(line.text) != 3:
        return "a status that is not three digits (RFC 9110 15)"
    if any(o.ports == line.ports and o.kind == line.kind and o.text.startswith(f"{line.text} ") for o in ours):
        return "a target with spaces, of which tshark shows the first word"
    if any(o.ports[0] == line.ports[0] and o[1:] == line[1:] for o in ours):
        return "behind CONNECT: read as a connection of its own, to the port asked for"
    return ""


@pytest.mark.corpus
@pytest.mark.skipif(not ORACLE.is_file(), reason="the public captures are not beside this checkout")
def test_public_captures_as_tshark_reads_them() -> None:
    counted, unexplained, beyond = 0, [], []
    for file, rows in oracle().items():
        evidence = evidence_of(PUBLIC / file)
        assert evidence is not None, file
        theirs, ours = expected(rows), found(evidence)
        counted += len(theirs)
        unexplained += [(file, line) for line in theirs - ours if not explained(line, file, evidence, ours)]
        # tshark shows a message once its head and body are whole, and by ports and methods it knows. What is read here
        # besides is no invention: the request line stands in the file.
        asked = {line for line in ours - theirs if line.kind not in ("status", "http/2")}
        octets = (PUBLIC / file).read_bytes() if asked else b""
        beyond += [
            (file, line)
            for line in asked
            if f"{line.kind} {line.text.partition('REDACTED')[0]}".encode("latin-1") not in octets
            and file not in ACROSS_SEGMENTS
        ]
    assert counted > 1000
    assert unexplained == []
    assert beyond == []


DECODE_AS: Final = ("-d", "tcp.port==2379,http2", "-d", "udp.port==8472,vxlan")
"""What tshark does not know by itself."""
LAB_NAMES: Final = (
    "05-proxy-cleartext.pcap",
    "05b-service-proxy.pcap",
    "08b-etcd-cleartext.pcap",
    "09-anonymous-kubelet.pcap",
    "09b-control-plane-ports.pcap",
    "12-overlay-vxlan.pcap",
    "12c-overlay-geneve.pcap",
    "12d-overlay-ipip.pcap",
    "15b-ipv6-proxy-cleartext.pcap",
    "16-pcapng-two-interfaces.pcapng",
)


@pytest.mark.tshark
@pytest.mark.parametrize("name", LAB_NAMES)
def test_lab_captures_as_tshark_reads_them(name: str) -> None:
    path = LAB_FOLDER / name
    names = (
        *("tcp.srcport", "tcp.dstport", "http.request.method", "http.request.uri", "http.response.code"),
        "http2.headers.path",
    )
    done = subprocess.run(
        [
            "tshark",
            "-r",
            str(path),
            *DECODE_AS,
            "-Y",
            "http.request or http.response or http2.headers.path",
            "-T",
            "fields",
        ]
        + [word for field in names for word in ("-e", field)],
        capture_output=True,
        check=True,
        text=True,
    )
    keys = ("sport", "dport", "method", "uri", "status", "http2_path")
    rows = [dict(zip(keys, [*line.split("\t"), *[""] * 6], strict=False)) for line in done.stdout.splitlines()]
    evidence = evidence_of(path)

    assert evidence is not None
    assert rows
    assert found(evidence) == expected(rows)


def walked(frames: Iterable[tuple[int, bytes]], head_octets: int) -> tuple[set[Line], set[Line]]:
    """HTTP/2 requests of Ethernet `frames`, of which so many octets a direction are heads; paths known and not."""
    pipeline = Pipeline(Limits(head_octets=head_octets))
    pipeline.add(chunk([frame for _, frame in frames]))
    lines = {line for line in found(pipeline.evidence()) if line.kind == "http/2"}
    return {line for line in lines if line.text}, {line for line in lines if not line.text}


@pytest.mark.tshark
def test_behind_the_heads_http2_is_read_as_tshark_reads_it_and_lost_segments_invent_nothing() -> None:
    path = LAB_FOLDER / "08b-etcd-cleartext.pcap"
    fields = ("-T", "fields", "-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "http2.headers.path")
    command = ["tshark", "-r", str(path), *DECODE_AS, "-Y", "http2.headers.path", *fields]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    theirs = {
        Line((source, target), "http/2", shown(one))
        for source, target, paths in (line.split("\t") for line in done.stdout.splitlines())
        for one in paths.split(",")
    }
    with path.open("rb") as handle:
        frames = [(int(second), frame) for second, frame in dpkt.pcap.Reader(handle)]

    # Heads of 256 octets end behind the first request: nearly all is read by walking.
    assert walked(frames, 256) == (theirs, set())
    for seed in range(5):
        lost = Random(seed)
        known, _ = walked([frame for frame in frames if lost.random() > 0.05], 256)
        assert known <= theirs
        assert len(known) > len(theirs) // 2
    known, _ = walked(frames[len(frames) // 2 :], 256)
    assert known <= theirs
