"""PW205: a server's certificate does not name the endpoint that was dialled."""

from __future__ import annotations

from analyzer.registries import Grade, Severity, Ternary
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    evidence = audit.evidence
    compared = audit.verdicts.names
    # Self-made certificates name a host and nothing else; that they are accepted is told by PW201 and PW203.
    made = evidence.tls_is("server_self_made", Ternary.YES)
    finished = evidence.tls_is("established", Ternary.YES) | evidence.tls_is("refused", Ternary.YES)
    return outcome(
        scope=audit.connections & (evidence.tls_row >= 0) & ~made,
        decidable=compared.scope & compared.known & finished,
        violation=compared.mismatch,
        grade=Grade.INFERRED,
        frames=[evidence.tls_column("server_certificate_frame"), evidence.tls_column("client_hello_frame")],
        detail=compared.detail,
    )


NAME_MISMATCH = Rule(
    code="PW205",
    name="certificate-name-mismatch",
    title="A server's certificate does not name the server that was dialled",
    severity=Severity.MEDIUM,
    channels=(),
    needs="a certificate in clear (TLS 1.2 or below), or the keys",
    seen="a certificate whose names do not include the name or address that the client dialled",
    why="A client that checks refuses it; one that accepts it checks too little. Either way verification cannot be "
    "switched on before the certificate is right.",
    remediation="Issue the certificate for the names and addresses under which clients dial the server.",
    flags=(
        "kubeadm ClusterConfiguration: apiServer.certSANs, etcd.local.serverCertSANs",
        "kubelet: serverTLSBootstrap: true (its CSR holds the node's addresses)",
        "kube-apiserver: --kubelet-preferred-address-types",
    ),
    source="https://kubernetes.io/docs/setup/best-practices/certificates/",
    cis="",
    limits="A client may check against another name than it sends, and an address may be translated on the way: graded "
    "inferred, and not decided for addresses behind Services.",
    filter="tls.handshake.type == 11 || tls.handshake.type == 1",
    check=_check,
)
