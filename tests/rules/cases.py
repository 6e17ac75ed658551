"""What the tests of rules are made of: audits of built frames, of recordings, and of either with cluster facts."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from analyzer.analysis import ClusterContext, conclude, run
from analyzer.capture.source import open_capture
from analyzer.cluster.expectation import read_expectation
from analyzer.cluster.handover import declarations, declared_roles
from analyzer.cluster.loading import read_cluster_facts
from analyzer.pipeline import Pipeline
from analyzer.report.audit_result import AuditResult, CaptureSummary
from analyzer.user_files import load_cluster
from tests.builders import Conversation, chunk
from tests.conftest import all_lab_captures
from tests.unit.protocols.tls.ssl_pairs import START, Pair, client_context, identity, server_context

CP, NODE1, NODE2, NODE3, ETCD, POD, USER = (
    "10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.20", "10.244.1.5", "192.0.2.7",
)  # fmt: skip
REQUEST = b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\n"
PROXIED = b"X-Forwarded-Uri: /api/v1/namespaces/default/pods/web/proxy/\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
VALID_NS = int((START + dt.timedelta(days=100)).timestamp()) * 10**9
MATRIX = "Direction,Protocol,Port,Namespace,Service,Pod,Container,Node Role,Optional\n"


def node(name: str, address: str, **more: Any) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": address}]} | more
    return {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}, "status": status}


INVENTORY: list[dict[str, Any]] = [
    node("node1", NODE1),
    node("node2", NODE2),
    {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "default", "uid": "1"},
        "spec": {"nodeName": "node1", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": POD}]},
    },
    {
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": CP}], "ports": [{"port": 6443}]}],
    },
]


def manifest(*flags: str) -> str:
    """A static-pod manifest of kube-apiserver with these flags besides the ones every test needs."""
    command = ["kube-apiserver", f"--advertise-address={CP}", f"--etcd-servers=http://{ETCD}:2379", *flags]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kube-apiserver"}}
    return json.dumps(pod | {"spec": {"containers": [{"name": "kube-apiserver", "command": command}]}})


def facts(
    *flags: str,
    objects: Sequence[Mapping[str, Any]] = INVENTORY,
    files: Mapping[str, str] | None = None,
    expect: str | None = None,
) -> ClusterContext:
    """Cluster facts as `load_cluster` makes them, from text instead of files."""
    given = {
        "cluster.json": json.dumps({"kind": "List", "items": list(objects)}),
        "kube-apiserver.yaml": manifest(*flags),
        **(files or {}),
    }
    read = read_cluster_facts({name: text.encode() for name, text in given.items()})
    expectation = read_expectation(expect.encode(), "matrix.csv") if expect is not None else None
    return ClusterContext(declared_roles(read), declarations(read, expectation))


def audit(
    frames: Sequence[bytes], context: ClusterContext | None = None, times_ns: Sequence[int] | None = None
) -> AuditResult:
    """The audit of a capture of these frames, made while the test certificates are valid."""
    pipeline = Pipeline()
    pipeline.add(chunk(list(frames), times_ns=times_ns or [VALID_NS + i * 10**6 for i in range(len(frames))]))
    summary = CaptureSummary("built", "pcap", 0, len(frames), pipeline.first_ns, pipeline.last_ns)
    return conclude(pipeline.evidence(), pipeline.ledger, [summary], context or ClusterContext())


@cache
def _recorded(name: str, facts_of: str) -> AuditResult:
    path = next(p for p in all_lab_captures() if p.name.startswith(name))
    folder = path.parent / "clusters" / path.name.split(".", 1)[0]
    context = load_cluster((str(folder),) if facts_of == "own" and folder.is_dir() else ())
    with open_capture(str(path)) as reader:
        return run(reader, context)


def recorded(name: str, *, own_facts: bool = True) -> AuditResult:
    """The audit of the recording whose name begins so, with the facts that lie beside it or with none."""
    return _recorded(name, "own" if own_facts else "none")


def reconsidered(name: str, change: Mapping[str, Any], *, own_facts: bool = True) -> AuditResult:
    """The same packets, judged as if the cluster had declared something else."""
    result = recorded(name, own_facts=own_facts)
    path = next(p for p in all_lab_captures() if p.name.startswith(name))
    folder = path.parent / "clusters" / path.name.split(".", 1)[0]
    context = load_cluster((str(folder),) if own_facts else ())
    changed = replace(context, declared=replace(context.declared, **change))
    return conclude(result.audit.evidence, result.ledger, result.captures, changed)


def conversation(client: str, server: str, sport: int, dport: int) -> Conversation:
    """One with sequence numbers of its own: two with the same ones are legs of one connection."""
    seed = zlib.crc32(f"{client}:{sport} {server}:{dport}".encode())
    return Conversation(
        client=client, server=server, sport=sport, dport=dport, isn=(seed & 0xFFFFFFF, seed >> 3)
    ).open()


def http(
    dport: int,
    request: bytes = REQUEST,
    server: str = NODE1,
    client: str = CP,
    sport: int = 40000,
    answer: bytes = ANSWER,
) -> list[bytes]:
    talk = conversation(client, server, sport, dport)
    return talk.send(0, request + b"\r\n").send(1, answer).close().frames


def unknown(dport: int, server: str = NODE1, client: str = CP) -> list[bytes]:
    """A connection that speaks something nobody recognises."""
    talk = conversation(client, server, 40000, dport)
    return talk.send(0, b"\x00\x01\x02\x03" * 8).send(1, b"\x80\x01\x02\x03" * 8).close().frames


def silent(dport: int, server: str = NODE1, client: str = CP) -> list[bytes]:
    """A connection that was opened and closed."""
    return conversation(client, server, 40000, dport).close().frames


def tls(
    dport: int,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    *,
    server: str = NODE1,
    client: str = CP,
    sport: int = 40000,
    with_certificate: bool = True,
    ask: bool = True,
    name: str | None = None,
    organization: str = "",
    days: int = 36500,
    trust: str | None = None,
) -> list[bytes]:
    """A real TLS connection between two OpenSSL ends, as the frames of a capture.

    The server's certificate is signed by a CA and names node1 and 10.0.0.11; with `trust` the client checks it against
    the CA of that name.
    """
    authority = identity("etcd-ca")
    served = server_context(identity("server", issuer="etcd-ca", days=days), version, authority if ask else None)
    who = identity("client", issuer="etcd-ca", organization=organization) if with_certificate else None
    pair = Pair(client_context(who, identity(trust) if trust else None), served, server_name=name)
    if pair.handshake():
        pair.exchange()
    talk = conversation(client, server, sport, dport)
    return talk.send(0, bytes(pair.sent[0])).send(1, bytes(pair.sent[1])).frames


def counts(result: AuditResult, code: str) -> tuple[int, int, int]:
    """Violations, complying connections, undecidable ones."""
    count = next(c for c in result.counts if c.rule.code == code)
    return count.violation, count.compliant, count.undecidable


def excerpt(name: str, keep: Callable[[int, bytes], bool], context: ClusterContext | None = None) -> AuditResult:
    """The audit of those frames of a recording that `keep` (number, octets) chooses."""
    path = next(p for p in all_lab_captures() if p.name.startswith(name))
    frames, times = [], []
    with open_capture(str(path)) as reader:
        for part in reader:
            for row, (start, length) in enumerate(zip(part.start.tolist(), part.captured_len.tolist(), strict=True)):
                octets = part.octets[start : start + length].tobytes()
                if keep(part.first_frame + row, octets):
                    frames.append(octets)
                    times.append(int(part.time_ns[row]))
    return audit(frames, context, times)


def to_or_from(port: int) -> Callable[[int, bytes], bool]:
    """Frames (Ethernet, IPv4 without options, TCP) of one port."""
    return lambda _number, octets: port in struct.unpack(">HH", octets[34:38])


def codes(result: AuditResult) -> set[str]:
    return {finding.rule.code for finding in result.findings}
