"""Each rule has traffic that violates it, traffic that complies, and traffic that cannot be decided."""

from __future__ import annotations

import datetime as dt
import json
import ssl
from collections.abc import Callable
from dataclasses import replace

import pytest

from analyzer.analysis import conclude
from analyzer.cluster.declarations import CalledService
from analyzer.report.audit_result import AuditResult
from analyzer.rules import RULES
from analyzer.schema import HttpHead, HttpMessage
from tests.builders import Conversation, ethernet, ipv4, udp, vxlan
from tests.rules.cases import (
    CP,
    ETCD,
    INVENTORY,
    MATRIX,
    NODE1,
    NODE2,
    NODE3,
    POD,
    PROXIED,
    REQUEST,
    USER,
    VALID_NS,
    audit,
    codes,
    conversation,
    counts,
    excerpt,
    facts,
    http,
    node,
    reconsidered,
    recorded,
    silent,
    tls,
    to_or_from,
    unknown,
)
from tests.unit.protocols.test_ssh_offers import CLIENT, GO, OLD_SERVER, kexinit
from tests.unit.protocols.tls.ssl_pairs import START, Pair, client_context, identity, server_context

Case = Callable[[], AuditResult]
TLS13 = ssl.TLSVersion.TLSv1_3
METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
TOKEN = b"Authorization: Bearer abc.def.ghi\r\n"
DNS_QUERY = bytes.fromhex("1234010000010000000000000a6b756265726e6574657307646566617568740000010001")


def carried(frames: list[bytes]) -> list[bytes]:
    """The same frames inside VXLAN between two hosts."""
    return [ethernet(ipv4(udp(vxlan(frame), 50000, 8472), "10.0.0.10", "10.0.0.12", protocol=17)) for frame in frames]


def dns(client: str = POD, server: str = NODE2) -> list[bytes]:
    answer = DNS_QUERY[:2] + b"\x81\x80" + DNS_QUERY[4:]
    return [
        ethernet(ipv4(udp(DNS_QUERY, 40000, 53), client, server, protocol=17)),
        ethernet(ipv4(udp(answer, 53, 40000), server, client, protocol=17)),
    ]


def at(frames: list[bytes], days: int) -> AuditResult:
    """Those frames as captured so many days after the test certificates were issued."""
    when = int((START + dt.timedelta(days=days)).timestamp()) * 10**9
    return audit(frames, facts(), [when + i * 10**6 for i in range(len(frames))])


def old_group() -> list[bytes]:
    """A handshake over secp224r1, which RFC 8422 withdrew."""
    server = server_context(identity("server", "rsa-2048", issuer="etcd-ca"), ssl.TLSVersion.TLSv1_2)
    client = client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # TLS 1.3 has no such group to offer
    for context in (server, client):
        context.set_ecdh_curve("secp224r1")
    pair = Pair(client, server)
    assert pair.handshake()
    assert pair.exchange()
    return Conversation(dport=6443).open().send(0, bytes(pair.sent[0])).send(1, bytes(pair.sent[1])).frames


def ssh(server: dict[str, str] | None) -> list[bytes]:
    """A session whose server offers these algorithms; None: its offer was not captured."""
    talk = conversation(USER, NODE1, 40000, 22)
    talk.send(0, GO + kexinit(CLIENT))
    return talk.send(1, GO + (kexinit(server) if server else b"")).frames


def agents_of(*nodes: str, server: str = CP, seconds: int = 60) -> AuditResult:
    """Both nodes call the API server; agents of `nodes` are connected to the konnectivity server at `server`."""
    frames = tls(6443, server=CP, client=NODE1) + tls(6443, server=CP, client=NODE2, sport=40001)
    for i, address in enumerate(nodes):
        frames += tls(8132, server=server, client=address, sport=41000 + i)
    step = seconds * 10**9 // (len(frames) - 1)
    return audit(frames, facts(), [VALID_NS + i * step for i in range(len(frames))])


def bypass(direct: list[bytes]) -> AuditResult:
    return audit(tls(8132, server=CP, client=NODE1) + direct, facts())


def stranger() -> AuditResult:
    """The API server's calls to a kubelet, in a cluster whose inventory does not list the address they come from."""
    elsewhere = {**INVENTORY[-1], "subsets": [{"addresses": [{"ip": "10.0.0.99"}], "ports": [{"port": 6443}]}]}
    context = facts(objects=[node("node1", NODE1), elsewhere], files={"kube-apiserver.yaml": "kind: List"})
    return excerpt("01-default", to_or_from(10250), context)


def anonymous() -> AuditResult:
    """A stranger's connection to a kubelet whose keys are known: GET /pods is answered with success."""
    result = recorded("09-anon")
    evidence = result.audit.evidence
    flow = next(f for f in result.findings if f.rule.code == "PW306").connections[0]
    first = int(evidence.flows.first_frame[flow])
    read = (
        HttpMessage(flow, first + 7, HttpHead(True, "1.1", method="GET", target="/pods"), decrypted=True),
        HttpMessage(flow, first + 8, HttpHead(False, "1.1", status=200), decrypted=True),
    )
    clear = replace(evidence.cleartext, http=(*evidence.cleartext.http, *read))
    return conclude(replace(evidence, cleartext=clear), result.ledger, result.captures, facts())


def drifted() -> AuditResult:
    """Two nodes whose clients are built alike, and then one of them with another ClientHello."""
    result = recorded("07b-konn")
    evidence = result.audit.evidence
    node2 = evidence.flows.address[:, 0, 15] == int(NODE2.rsplit(".", 1)[1])
    rows = evidence.tls_row[node2 & (evidence.tls_row >= 0)]
    ja4 = evidence.tls.facts.ja4.copy()
    ja4[rows] = len(evidence.tls.strings)
    strings = (*evidence.tls.strings, "t13i1310h2_f57a46bbacb6_e7c285222651")
    reading = replace(evidence.tls, facts=replace(evidence.tls.facts, ja4=ja4), strings=strings)
    changed = replace(evidence, tls=reading)
    return conclude(changed, result.ledger, result.captures, facts(objects=INVENTORY))


def kubeconfig(**cluster: object) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"https://{CP}:6443", **cluster}}],
            "users": [{"name": "system:node:node1", "user": {"client-certificate": "/x"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "system:node:node1"}}],
        }
    )


def matrix(*rows: str) -> str:
    return MATRIX + "".join(f"Ingress,{row},,kubelet,,,,false\n" if row.count(",") == 1 else row for row in rows)


AGGREGATED = (CalledService("APIService v1beta1.lab.example.test", "web-tls.default.svc", verifies=False),)
WEBHOOK = (CalledService("ValidatingWebhookConfiguration lab: lab", "", frozenset({(
    bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 12]), 9444)})),)  # fmt: skip

CASES: dict[str, tuple[Case, Case | None, Case | None]] = {
    "PW101": (
        lambda: audit(http(8080, REQUEST + PROXIED, server=POD), facts()),
        lambda: recorded("05-proxy"),
        lambda: audit(unknown(9000, server=POD), facts()),
    ),
    "PW102": (lambda: audit(http(10255)), lambda: audit(tls(10255), facts()), lambda: audit(silent(10255))),
    "PW103": (
        lambda: recorded("08b-etcd"),
        lambda: audit(tls(2379, server=ETCD), facts()),
        lambda: audit(silent(2379, server=ETCD), facts()),
    ),
    "PW104": (
        lambda: audit(http(8080, REQUEST + TOKEN)),
        lambda: audit(http(8080)),
        lambda: audit(silent(8080)),
    ),
    "PW105": (
        lambda: audit(http(8080, server=CP, client=USER), facts()),
        lambda: audit(tls(8080, server=CP, client=USER), facts()),
        lambda: audit(silent(8080, server=CP, client=USER), facts()),
    ),
    "PW106": (lambda: audit(http(10251, METRICS)), lambda: audit(tls(10259)), lambda: audit(silent(10252))),
    "PW107": (
        lambda: audit(http(8001, client=USER)),
        lambda: audit(tls(8001, client=USER)),
        lambda: audit(silent(8001, client=USER)),
    ),
    "PW108": (lambda: audit(http(10249, METRICS)), lambda: audit(http(10256, HEALTH)), lambda: audit(silent(10249))),
    "PW109": (
        lambda: audit(carried(http(8080, REQUEST + PROXIED, server=POD)), facts()),
        lambda: audit(carried(tls(10250)), facts()),
        lambda: audit(carried(unknown(9000, server=POD)), facts()),
    ),
    "PW110": (lambda: audit(dns()), lambda: audit(tls(53)), lambda: audit(silent(53))),
    "PW111": (
        lambda: audit(http(30080, client=USER), facts()),
        lambda: audit(tls(30443, client=USER), facts()),
        lambda: audit(silent(30080, client=USER), facts()),
    ),
    "PW201": (
        lambda: recorded("01-default"),
        lambda: recorded("07e-konn"),
        lambda: recorded("26b-fmt", own_facts=False),
    ),
    "PW202": (
        lambda: recorded("05-proxy"),
        None,  # the API server's proxy never checks: no connection of it can comply
        lambda: excerpt("05-proxy", lambda number, _: number <= 216),
    ),
    "PW203": (
        lambda: recorded("09-anon"),
        lambda: audit(tls(2379, server=ETCD, trust="other-ca"), facts()),
        lambda: audit(tls(2379)),
    ),
    "PW204": (
        lambda: at(tls(6443, days=365), 350),
        lambda: at(tls(6443, days=365), 100),
        lambda: at(tls(6443, TLS13, days=365), 350),
    ),
    "PW205": (
        lambda: audit(tls(2379, server=ETCD), facts()),
        lambda: audit(tls(10250, name="node1"), facts()),
        lambda: audit(tls(2379, TLS13, server=ETCD), facts()),
    ),
    "PW206": (
        lambda: reconsidered("13-adm", {"called": AGGREGATED}),
        lambda: reconsidered("13-adm", {"called": WEBHOOK}),
        lambda: recorded("13-adm"),
    ),
    "PW207": (
        lambda: reconsidered("04-node", {"node_kubeconfig_ca": False}),
        lambda: recorded("04-node"),
        lambda: recorded("01-default"),
    ),
    "PW301": (
        lambda: recorded("02b-ver"),
        lambda: recorded("01-default"),
        lambda: recorded("26b-fmt", own_facts=False),
    ),
    "PW302": (
        lambda: audit(tls(2379, with_certificate=False)),
        lambda: audit(tls(2379)),
        lambda: audit(tls(2379)[-2:]),
    ),
    "PW303": (
        lambda: audit(tls(8132, with_certificate=False)),
        lambda: audit(tls(8132)),
        lambda: audit(tls(8132)[-2:]),
    ),
    "PW304": (
        lambda: audit(tls(6443, server=CP, client=USER, organization="system:masters"), facts()),
        lambda: audit(tls(6443, server=CP, client=USER, organization="kubeadm:cluster-admins"), facts()),
        lambda: audit(tls(6443, TLS13, server=CP, client=USER, organization="system:masters"), facts()),
    ),
    "PW305": (
        anonymous,
        lambda: recorded("01-default"),
        lambda: recorded("09-anon"),
    ),
    "PW306": (
        lambda: recorded("09-anon"),
        lambda: audit(tls(10250, client=POD), facts()),
        stranger,
    ),
    "PW307": (
        lambda: audit(tls(6443, server=CP, client="8.8.8.8"), facts()),
        lambda: audit(tls(6443, server=CP, client="192.168.7.7"), facts()),
        lambda: audit(silent(6443, server=CP, client="8.8.8.8"), facts()),
    ),
    "PW401": (lambda: recorded("10b-leg"), lambda: recorded("01-def"), lambda: recorded("26b-fmt")),
    "PW402": (lambda: recorded("10b-leg"), lambda: recorded("10-tls12"), lambda: recorded("26b-fmt")),
    "PW403": (lambda: recorded("10b-leg"), lambda: recorded("10-tls12"), lambda: recorded("26b-fmt")),
    "PW404": (lambda: audit(old_group()), lambda: recorded("10-tls12"), lambda: recorded("26b-fmt")),
    "PW405": (lambda: recorded("10-tls12"), lambda: recorded("01-def"), lambda: recorded("26b-fmt")),
    "PW501": (lambda: recorded("06-ssh"), lambda: recorded("06c-ssh"), lambda: audit(silent(22, client=USER))),
    "PW502": (
        lambda: recorded("07d-konn"),
        lambda: recorded("07c-konn"),
        lambda: bypass(silent(10250)),
    ),
    "PW503": (
        lambda: audit(ssh(OLD_SERVER), facts()),
        lambda: audit(ssh(CLIENT), facts()),
        lambda: audit(ssh(None), facts()),
    ),
    "PW504": (
        lambda: agents_of(NODE1),
        lambda: agents_of(NODE1, NODE2),
        lambda: agents_of(NODE1, seconds=5),
    ),
    "PW601": (
        lambda: reconsidered("01-def", {"kubelet_ca": True}),
        lambda: recorded("01-def"),
        lambda: reconsidered("26b-fmt", {"kubelet_ca": True}),
    ),
    "PW602": (
        lambda: audit(http(9999, client=USER), facts(expect=MATRIX + "Ingress,TCP,10250,,kubelet,,,worker,false\n")),
        lambda: audit(tls(10250), facts(expect=MATRIX + "Ingress,TCP,10250,,kubelet,,,worker,false\n")),
        lambda: audit(
            http(9999, client=USER)[3:4], facts(expect=MATRIX + "Ingress,TCP,10250,,kubelet,,,worker,false\n")
        ),
    ),
    "PW603": (
        drifted,
        lambda: recorded("07b-konn"),
        lambda: recorded("04-node", own_facts=False),
    ),
    "PW901": (lambda: recorded("26b-fmt", own_facts=False), lambda: recorded("05-proxy"), None),
}
"""Violating, complying, undecidable. PW901 says what cannot be decided, and is itself never undecidable."""


def test_every_rule_has_its_cases() -> None:
    assert list(CASES) == [rule.code for rule in RULES]


@pytest.mark.parametrize("code", CASES)
def test_traffic_that_violates(code: str) -> None:
    result = CASES[code][0]()

    assert code in codes(result)
    assert counts(result, code)[0] > 0
    for finding in result.findings:
        if finding.rule.code == code:
            assert finding.frames, "a finding names the frames that show it"
            assert finding.connections
            last = int(result.audit.evidence.flows.last_frame.max())
            assert all(0 < frame <= last for frame in finding.frames)


@pytest.mark.parametrize("code", [code for code, case in CASES.items() if case[1] is not None])
def test_traffic_that_complies(code: str) -> None:
    case = CASES[code][1]
    assert case is not None
    result = case()

    violation, compliant, _ = counts(result, code)
    assert compliant > 0
    if code not in ("PW101", "PW901"):  # these recordings hold both
        assert violation == 0
        assert code not in codes(result)


@pytest.mark.parametrize("code", [code for code, case in CASES.items() if case[2] is not None])
def test_traffic_that_cannot_be_decided(code: str) -> None:
    case = CASES[code][2]
    assert case is not None
    result = case()

    violation, _, undecidable = counts(result, code)
    assert undecidable > 0
    assert violation == 0
    assert code not in codes(result)


def test_what_carried_no_payload_is_never_a_violation_nor_compliant() -> None:
    frames = [f for port in (10255, 2379, 10250, 8132, 8080, 10251, 8001, 10249, 22, 30080) for f in silent(port)]
    result = audit(frames, facts(expect=MATRIX + "Ingress,TCP,10250,,kubelet,,,worker,false\n"))

    for rule in RULES:
        violation, compliant, _ = counts(result, rule.code)
        if rule.code not in ("PW602", "PW901"):  # that a port answered is all PW602 asks
            assert (violation, compliant) == (0, 0), rule.code


def test_a_channel_without_connections_is_not_observed() -> None:
    nothing = audit(http(12345, client=NODE3, server=USER))

    for count in nothing.counts:
        if count.rule.code not in ("PW104",):
            assert count.not_observed == max(1, len(count.rule.channels)), count.rule.code
    seen = next(c for c in recorded("01-def").counts if c.rule.code == "PW201")
    assert seen.not_observed == 0
