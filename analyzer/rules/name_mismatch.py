"""PW205: a server's certificate does not name the endpoint that was dialled."""

from __future__ import annotations

import ipaddress

import numpy as np

from analyzer.cluster.roles import LOOPBACK_NAME, ServiceKind, address_text
from analyzer.registries import Grade, Severity, Ternary
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.schema import Certificate

_FIXED = (
    ServiceKind.KUBELET,
    ServiceKind.ETCD,
    ServiceKind.KONNECTIVITY_AGENTS,
    ServiceKind.KONNECTIVITY_FRONTEND,
)
"""Services that are dialled at their own address; what stands behind a Service may have been dialled at another."""


def names_endpoint(certificate: Certificate, name: str, address: str) -> bool:
    """Whether a certificate names what was dialled: `name`, or where it is empty `address` (RFC 9525 6).

    A certificate without any subject alternative name is given the benefit of its common name, as old clients do.
    """
    if not name:
        wanted = ipaddress.ip_address(address)
        return any(_same_address(text, wanted) for text in certificate.ip_addresses)
    listed = certificate.dns_names or (() if certificate.ip_addresses else (certificate.common_name,))
    name = name.rstrip(".").lower()
    return any(_matches(pattern.rstrip(".").lower(), name) for pattern in listed)


def _same_address(text: str, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return ipaddress.ip_address(text) == wanted
    except ValueError:
        return False


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == name
    first, dot, rest = name.partition(".")
    return bool(first and dot) and rest == pattern[2:]


def _check(audit: Audit) -> Outcome:
    evidence = audit.evidence
    leaf = evidence.leaf("server")
    sni = evidence.tls_column("sni", -1)
    fixed = np.isin(audit.roles.kind(), _FIXED)
    made = evidence.tls_is("server_self_made", Ternary.YES)
    loopback = evidence.tls_text_in("sni", frozenset({LOOPBACK_NAME}))
    # Self-made certificates name a host and nothing else; that they are accepted is told by PW201 and PW203.
    scope = audit.connections & (evidence.tls_row >= 0) & ~made & ~loopback
    mismatch = np.zeros(len(evidence), bool)
    detail: dict[int, str] = {}
    rows = np.flatnonzero(scope & (leaf >= 0))
    keys = np.stack([leaf[rows], sni[rows], np.where(sni[rows] < 0, audit.roles.server[rows], -1)], axis=1)
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    for number, (certificate_row, name_row, server_row) in enumerate(distinct.tolist()):
        certificate = evidence.tls.certificates[certificate_row]
        name = evidence.tls.strings[name_row] if name_row >= 0 else ""
        address = address_text(audit.roles.addresses[server_row]) if server_row >= 0 else ""
        if not names_endpoint(certificate, name, address):
            here = rows[inverse == number]
            mismatch[here] = True
            names = ", ".join([*certificate.dns_names, *certificate.ip_addresses][:6]) or "no names"
            detail[int(here[0])] = f"{name or address} was dialled; the certificate names {names}"
    accepted = evidence.tls_is("established", Ternary.YES) | evidence.tls_is("refused", Ternary.YES)
    # Without a name the address is what was dialled, unless it was translated on the way.
    known = (leaf >= 0) & ((sni >= 0) | fixed | ~mismatch)
    return outcome(
        scope=scope,
        decidable=known & accepted,
        violation=mismatch,
        grade=Grade.INFERRED,
        frames=[evidence.tls_column("server_certificate_frame"), evidence.tls_column("client_hello_frame")],
        detail=detail,
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
