"""PW203: a client accepted a certificate that no check would pass."""

from __future__ import annotations

from analyzer.cluster.roles import USER
from analyzer.registries import Grade, Protocol, ServerVerification, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.rules.cleartext_proxy import CHANNELS as PROXIES

OWN_RULES = ("apiserver-to-kubelet", "apiserver-to-webhook", "node-to-apiserver", "controlplane-to-apiserver")


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.server_verification
    tls = audit.evidence.identification.protocol == Protocol.TLS
    shown = answer.grade <= Grade.INFERRED
    # Those channels have rules of their own (PW201, PW202, PW206, PW207), with their own remediation. That a stranger
    # looks at a kubelet without checking it is his own affair, and that he reaches it is PW306's.
    stranger = audit.on("user-to-kubelet") & audit.roles.client_is(USER)
    elsewhere = audit.connections & ~audit.on(*OWN_RULES, *PROXIES) & ~stranger
    return outcome(
        scope=elsewhere & tls,
        decidable=(answer.value != ServerVerification.UNDECIDABLE) & shown,
        violation=answer.value == ServerVerification.UNVERIFIED,
        grade=answer.grade,
        frames=[
            audit.evidence.tls_column("server_certificate_frame"),
            audit.evidence.tls_column("application_data_frame"),
            audit.evidence.flows.first_frame,
        ],
    )


UNTRUSTED_CERTIFICATE = Rule(
    code="PW203",
    name="untrusted-certificate-accepted",
    title="A client accepted a certificate that no check would pass",
    severity=Severity.MEDIUM,
    channels=(),
    needs="a TLS handshake; its certificate in clear below TLS 1.3",
    seen="a handshake completed although the server's certificate is expired, self-made, for another name or missing",
    why="A client that accepts such a certificate accepts any: whoever is on the path can pose as the server.",
    remediation="Give the client the CA that signs this server's certificates and remove the switch that skips the "
    "check; renew expired certificates.",
    flags=(
        "kubeconfig: certificate-authority instead of insecure-skip-tls-verify",
        "metrics-server: --kubelet-certificate-authority instead of --kubelet-insecure-tls",
        "Prometheus: tls_config.ca_file instead of insecure_skip_verify",
        "curl: --cacert instead of -k",
    ),
    source="https://kubernetes.io/docs/tasks/administer-cluster/certificates/",
    cis="",
    limits="A self-signed certificate that the client holds itself is checked all the same: graded inferred.",
    filter="tls.handshake",
    check=_check,
)
