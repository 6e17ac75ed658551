"""Each rule has traffic that violates it, that complies, and that cannot be decided; elsewhere it stays silent."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from analyzer.capture.source import open_capture
from analyzer.cli.cluster_files import load_cluster
from analyzer.pipeline import ClusterContext, Pipeline, conclude, run
from analyzer.registries import Grade
from analyzer.report.document import AuditResult, CaptureSummary
from analyzer.rules import RULES
from tests.builders import Conversation, chunk, frames_of
from tests.conftest import LAB, all_lab_captures
from tests.unit.protocols.tls.ssl_pairs import Pair, client_context, identity, server_context

REQUEST = b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\n"
PROXIED = b"X-Forwarded-Uri: /api/v1/namespaces/default/pods/web/proxy/\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def audit(frames: list[bytes]) -> AuditResult:
    pipeline = Pipeline()
    pipeline.add(chunk(frames))
    summary = CaptureSummary("built", "pcap", 0, len(frames), pipeline.first_ns, pipeline.last_ns)
    return conclude(pipeline.evidence(), pipeline.ledger, [summary], ClusterContext())


def recorded(name: str, *, facts: bool = True) -> AuditResult:
    path = next(p for p in all_lab_captures() if p.name.startswith(name))
    folder = path.parent / "clusters" / path.name.split(".", 1)[0]
    with open_capture(str(path)) as reader:
        return run(reader, load_cluster((str(folder),) if facts and folder.is_dir() else ()))


def http(dport: int, request: bytes, server: str = "10.0.0.11") -> list[bytes]:
    conversation = Conversation(server=server, dport=dport).open()
    return conversation.send(0, request + b"\r\n").send(1, ANSWER).close().frames


def silent(dport: int) -> list[bytes]:
    return Conversation(dport=dport).open().close().frames


def codes(result: AuditResult) -> set[str]:
    return {finding.rule.code for finding in result.findings}


def counts(result: AuditResult, code: str) -> tuple[int, int, int]:
    count = next(c for c in result.counts if c.rule.code == code)
    return count.violation, count.compliant, count.undecidable


VIOLATIONS: dict[str, tuple[str, bool]] = {
    "PW101": ("05-proxy", True),
    "PW102": ("09-anon", True),
    "PW103": ("08b-etcd", True),
    "PW104": ("09-anon", True),
    "PW201": ("01-default", True),
    "PW202": ("05-proxy", True),
    "PW203": ("09-anon", True),
    "PW301": ("02b-verified", True),
    "PW401": ("10b-legacy", True),
    "PW402": ("10b-legacy", True),
    "PW501": ("06-ssh", True),
    "PW502": ("07d-konn", True),
    "PW901": ("01-default", True),
}


@pytest.mark.parametrize("code", VIOLATIONS)
def test_a_recording_that_violates(code: str) -> None:
    name, facts = VIOLATIONS[code]

    result = recorded(name, facts=facts)

    assert code in codes(result)
    assert counts(result, code)[0] > 0
    for finding in result.findings:
        if finding.rule.code == code:
            assert finding.frames
            assert finding.connections


COMPLIANT = {
    "PW103": "10-tls12",
    "PW201": "07e-konn",
    "PW301": "01-default",
    "PW401": "01-default",
    "PW402": "10-tls12",
    "PW502": "07c-konn",
}


@pytest.mark.parametrize("code", COMPLIANT)
def test_a_recording_that_complies(code: str) -> None:
    result = recorded(COMPLIANT[code])

    assert code not in codes(result)


@pytest.mark.parametrize(
    ("name", "code"),
    [("20-fmt-snaplen96", "PW201"), ("26b-fmt-no-handshakes", "PW301"), ("26b-fmt-no-handshakes", "PW401")],
)
def test_a_recording_that_cannot_be_decided(name: str, code: str) -> None:
    result = recorded(name, facts=False)

    violation, _, undecidable = counts(result, code)
    assert (violation, undecidable > 0) == (0, True)
    assert code not in codes(result)
    assert "PW901" in codes(result)


def test_cleartext_proxy_and_its_neighbours() -> None:
    proxied = audit(http(8080, REQUEST + PROXIED))
    direct = audit(http(8080, REQUEST))

    assert codes(proxied) == {"PW101"}
    assert codes(direct) == set()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"Authorization: Bearer abc.def.ghi\r\n", True),
        (b"Authorization: Basic dXNlcjpwYXNz\r\n", True),
        (b"authorization:  bEaReR x\r\n", True),
        (b"Cookie: a=b\r\n", False),
        (b"X-Authorization: Bearer x\r\n", False),
        (b"", False),
    ],
)
def test_credentials_in_cleartext(header: bytes, found: bool) -> None:
    result = audit(http(8080, REQUEST + header))

    assert ("PW104" in codes(result)) == found
    assert counts(result, "PW104")[1] == (0 if found else 1)


def test_what_carried_no_payload_is_never_a_violation_nor_compliant() -> None:
    result = audit(frames_of([]) + silent(10255) + silent(2379) + silent(10250))

    assert codes(result) == set()
    for rule in RULES:
        violation, compliant, _ = counts(result, rule.code)
        assert violation == 0
        if rule.code not in ("PW901",):
            assert compliant == 0, rule.code


def test_refused_certificates_are_no_missing_client_certificates() -> None:
    result = recorded("03-verification")

    assert "PW301" not in codes(result)
    assert "PW201" not in codes(result)


SILENT: dict[str, Sequence[str]] = {
    "PW101": ("01-", "02-", "03-", "04-", "08-", "10-", "13-"),
    "PW102": ("01-", "04-", "08-", "13-"),
    "PW103": ("01-", "02-", "08-etcd", "13-"),
    "PW104": ("01-", "05-", "12-", "13-"),
    "PW201": ("02-", "02b", "03-", "03b", "03c", "04-", "07e", "15c"),
    "PW202": ("01-", "02-", "04-", "07-", "08-", "13-"),
    "PW401": ("01-", "02-", "10-tls12", "14-"),
    "PW402": ("01-", "02-", "10-tls12", "14-"),
    "PW501": ("01-", "06c", "07-", "14-"),
    "PW502": ("01-", "02-", "06-", "07-", "07c", "07e"),
}


@pytest.mark.parametrize(("code", "name"), [(c, n) for c, names in SILENT.items() for n in names])
def test_no_finding_where_the_truth_has_none(code: str, name: str) -> None:
    found = [p for p in all_lab_captures() if p.name.startswith(name)]
    if not found:
        return  # a larger recording of the same lab that lies beside the repository only

    assert code not in codes(recorded(name))


def tls(
    dport: int, version: ssl.TLSVersion, *, with_certificate: bool, ask: bool = True, finish: bool = True
) -> list[bytes]:
    """A real TLS connection between two OpenSSL ends, as the frames of a capture."""
    authority = identity("etcd-ca")
    server = server_context(identity("etcd", issuer="etcd-ca"), version, authority if ask else None)
    pair = Pair(client_context(identity("client", issuer="etcd-ca") if with_certificate else None), server)
    assert pair.handshake()
    if finish:
        assert pair.exchange()
    conversation = Conversation(dport=dport).open()
    return conversation.send(0, bytes(pair.sent[0])).send(1, bytes(pair.sent[1])).frames


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("code", "dport"), [("PW302", 2379), ("PW303", 8132), ("PW301", 10250)])
def test_client_certificates(code: str, dport: int, version: ssl.TLSVersion) -> None:
    without = audit(tls(dport, version, with_certificate=False))
    presented = audit(tls(dport, version, with_certificate=True))
    middle = audit(tls(dport, version, with_certificate=True)[-2:])

    assert counts(without, code) == (1, 0, 0)
    assert counts(presented, code) == (0, 1, 0)
    assert counts(middle, code)[:2] == (0, 0)
    [finding] = [f for f in without.findings if f.rule.code == code]
    assert finding.grade == (Grade.OBSERVED if version == ssl.TLSVersion.TLSv1_2 else Grade.INFERRED)


def test_every_rule_is_tested_here() -> None:
    assert {rule.code for rule in RULES} == {*VIOLATIONS, "PW302", "PW303"}


def test_the_lab_is_here() -> None:
    assert isinstance(LAB, Path)
    assert len(all_lab_captures()) >= 40
