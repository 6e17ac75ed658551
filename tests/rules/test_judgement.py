"""What single rules say, and how they keep their stories apart."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest

from analyzer.analysis import conclude
from analyzer.cluster.roles import LOOPBACK
from analyzer.registries import Grade
from analyzer.report.audit_result import AuditResult
from analyzer.rules.certificate_expiry import expires_soon
from analyzer.schema import Certificate
from tests.rules.cases import (
    CP,
    ETCD,
    MATRIX,
    NODE1,
    POD,
    PROXIED,
    REQUEST,
    USER,
    audit,
    codes,
    conversation,
    counts,
    facts,
    http,
    reconsidered,
    recorded,
    silent,
    tls,
)
from tests.rules.test_cases import agents_of, anonymous, at, stranger


def certificate(dns: tuple[str, ...] = (), addresses: tuple[str, ...] = (), common_name: str = "cn") -> Certificate:
    return Certificate(
        "0" * 64, f"CN={common_name}", "CN=ca", common_name, (), "ca", dns, addresses, 0, 1, "", "", False, False, False
    )


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


def with_hidden_fields(result: AuditResult) -> AuditResult:
    """The same messages, each with a field that refers to a header table from before the capture."""
    evidence = result.audit.evidence
    messages = tuple(replace(m, head=m.head._replace(undecoded=1)) for m in evidence.cleartext.http)
    hidden = replace(evidence, cleartext=replace(evidence.cleartext, http=messages))
    return conclude(hidden, result.ledger, result.captures, facts())


def test_a_credential_may_hide_in_what_could_not_be_decoded() -> None:
    token = b"Authorization: Bearer abc.def.ghi\r\n"
    served, clear, shown = anonymous(), audit(http(8080, REQUEST)), audit(http(8080, REQUEST + token))
    anyone = counts(served, "PW305")

    assert anyone[0] > 0
    assert counts(with_hidden_fields(served), "PW305") == (0, anyone[1], anyone[0] + anyone[2])
    assert counts(clear, "PW104") == (0, 1, 0)
    assert counts(with_hidden_fields(clear), "PW104") == (0, 0, 1)
    assert counts(with_hidden_fields(shown), "PW104") == (1, 0, 0)


def test_refused_certificates_are_no_missing_client_certificates() -> None:
    result = recorded("03-verification")

    assert "PW301" not in codes(result)
    assert "PW201" not in codes(result)


def test_a_stranger_at_a_kubelet_is_one_story() -> None:
    """curl -k without a certificate: that he reaches it is told, not that he checks nothing and has no certificate."""
    result = audit(tls(10250, client=USER, with_certificate=False), facts())

    assert codes(result) == {"PW306"}
    [finding] = result.findings
    assert finding.detail == ("a caller without a client certificate",)


def test_a_pod_that_scrapes_without_checking_is_another() -> None:
    strangers = {f.rule.code: f for f in recorded("09-anon").findings if f.channel == "user-to-kubelet"}

    assert set(strangers) == {"PW203", "PW306"}
    assert set(strangers["PW203"].connections).isdisjoint(strangers["PW306"].connections)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("code", "dport"), [("PW302", 2379), ("PW303", 8132), ("PW301", 10250)])
def test_client_certificates(code: str, dport: int, version: ssl.TLSVersion) -> None:
    given_facts = facts("--kubelet-client-certificate=/x", f"--etcd-servers=https://{NODE1}:2379", "--etcd-certfile=/x")
    without = audit(tls(dport, version, with_certificate=False), given_facts)
    presented = audit(tls(dport, version), given_facts)
    middle = audit(tls(dport, version)[-2:], given_facts)

    assert counts(without, code) == (1, 0, 0)
    assert counts(presented, code) == (0, 1, 0)
    assert counts(middle, code)[0] == 0
    [finding] = [f for f in without.findings if f.rule.code == code]
    assert finding.grade == (Grade.OBSERVED if version == ssl.TLSVersion.TLSv1_2 else Grade.INFERRED)


@pytest.mark.parametrize(
    ("lifetime", "left", "soon"),
    [
        (365, 29, True),
        (365, 31, False),
        (365, 36, False),
        (90, 10, False),
        (90, 8, True),
        (20, 2, False),
        (20, 1, True),
    ],
)
def test_soon_is_a_month_and_a_tenth(lifetime: int, left: int, soon: bool) -> None:
    result = at(tls(6443, days=lifetime), lifetime - left)

    assert ("PW204" in codes(result)) == soon
    assert expires_soon(days=400, share=1.0)(result.audit).violation.any()
    assert not expires_soon(days=0)(result.audit).violation.any()


def test_agents_that_dial_another_host_are_not_missed() -> None:
    """Where the API server and the konnectivity server are two hosts, a capture of one tells nothing of the other."""
    assert counts(agents_of(NODE1, server="10.0.0.30"), "PW504")[0] == 0


def test_etcd_does_not_look_at_groups() -> None:
    result = audit(tls(2379, server=ETCD, organization="system:masters"), facts())

    assert "PW304" not in codes(result)


def test_a_managed_control_plane_is_no_stranger() -> None:
    """EKS dials kubelets from addresses that no inventory lists: a Go client with a certificate is not judged."""
    violation, compliant, undecidable = counts(stranger(), "PW306")

    assert (violation, compliant) == (0, 0)
    assert undecidable > 0


def test_what_a_node_says_to_itself_does_not_cross_the_network() -> None:
    own = http(8001, client="127.0.0.1", server="127.0.0.1") + http(10249, client=NODE1, server=NODE1, sport=41000)
    result = audit(own, facts())

    assert result.audit.roles.client_is(LOOPBACK).any()
    assert {"PW107", "PW108"}.isdisjoint(codes(result))


@pytest.mark.parametrize("target", [b"/", b"/apidocs", b"/index.html"])
def test_other_programs_on_the_port_of_kubectl_proxy(target: bytes) -> None:
    result = audit(http(8001, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n", client=USER))

    assert counts(result, "PW107") == (0, 1, 0)


# ------------------------------------------------------------------------------------------ contradictions


@pytest.mark.parametrize(
    ("name", "flags", "files", "says"),
    [
        ("01-default", ["--kubelet-certificate-authority=/ca.crt"], {}, "--kubelet-certificate-authority is set"),
        ("02b-ver", ["--kubelet-client-certificate=/x.crt"], {}, "--kubelet-client-certificate is set"),
        ("08b-etcd", ["--etcd-servers=https://10.0.0.20:2379"], {}, "TLS for etcd"),
        ("09-anon", [], {"kubelet-config-node1.yaml": "kind: KubeletConfiguration\nreadOnlyPort: 0\n"}, "readOnlyPort"),
        (
            "10b-leg",
            [],
            {"kubelet-config-node2.yaml": "kind: KubeletConfiguration\ntlsMinVersion: VersionTLS12\n"},
            "the minimum version is VersionTLS12",
        ),
        (
            "10b-leg",
            [],
            {"kubelet-config-node2.yaml": "kind: KubeletConfiguration\ntlsCipherSuites: [TLS_AES_128_GCM_SHA256]\n"},
            "the list of cipher suites",
        ),
        (
            "01-default",
            [],
            {"kubelet-config-node1.yaml": "kind: KubeletConfiguration\nserverTLSBootstrap: true\n"},
            "served a self-made certificate",
        ),
        (
            "07d-konn",
            ["--egress-selector-config-file=/e.yaml"],
            {
                "egress.yaml": "kind: EgressSelectorConfiguration\negressSelections:\n- name: cluster\n  connection:\n"
                "    proxyProtocol: GRPC\n    transport: {uds: {udsName: /x}}\n"
            },
            "the control plane dialled directly",
        ),
    ],
)
def test_contradictions(name: str, flags: list[str], files: dict[str, str], says: str) -> None:
    given_facts = facts(*flags, files=files)
    result = recorded(name)
    judged = conclude(result.audit.evidence, result.ledger, result.captures, given_facts)

    details = [line for f in judged.findings if f.rule.code == "PW601" for line in f.detail]
    assert any(says in line for line in details), details
    assert "PW601" not in codes(conclude(result.audit.evidence, result.ledger, result.captures, facts()))


def test_curl_on_the_control_plane_does_not_contradict_the_api_server() -> None:
    """10-tls12: curl -k from the control plane's address; the API server's flag speaks for the API server alone."""
    result = reconsidered("10-tls12", {"kubelet_ca": True, "kubelet_certificate": True})

    assert "PW601" not in codes(result)


def test_a_read_only_port_that_refuses_agrees_with_its_configuration() -> None:
    files = {"kubelet-config-node1.yaml": "kind: KubeletConfiguration\nreadOnlyPort: 0\n"}
    refused = conversation(USER, NODE1, 40000, 10255)
    reset = [refused.frames[0], refused._segment(1, 4 | 16)]

    assert counts(audit(reset, facts(files=files)), "PW601") == (0, 1, 0)
    assert counts(audit(silent(10255), facts(files=files)), "PW601") == (0, 0, 1)


# --------------------------------------------------------------------------------------------- expectation


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("Ingress,TCP,9999,,x,,,worker,false\n", False),
        ("Ingress,TCP,9000-10000,,x,,,,false\n", False),
        ("Ingress,TCP,9999,,x,,,master,false\n", True),
        ("Ingress,UDP,9999,,x,,,worker,false\n", True),
        ("Egress,TCP,9999,,x,,,worker,false\n", True),
        ("", True),
    ],
)
def test_the_matrix_is_compared_by_protocol_port_and_role(rows: str, found: bool) -> None:
    result = audit(http(9999, client=USER), facts(expect=MATRIX + rows))

    assert ("PW602" in codes(result)) == found


def test_pods_and_refused_ports_are_not_the_matrix_s_business() -> None:
    frames = http(9999, client=USER, server=POD) + silent(9998, client=USER)[:1]

    assert counts(audit(frames, facts(expect=MATRIX)), "PW602") == (0, 0, 1)


def test_the_control_plane_is_a_master() -> None:
    row = "Ingress,TCP,9999,,x,,,control-plane,false\n"

    assert "PW602" not in codes(audit(http(9999, client=USER, server=CP), facts(expect=MATRIX + row)))
