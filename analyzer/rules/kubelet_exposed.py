"""PW306: a kubelet is reached from outside the cluster."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.cluster.roles import LOOPBACK, NODE, POD, SERVICE, USER
from analyzer.registries import ClientCertificate, Grade, ServerVerification, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

_WORDS: Final[dict[int, str]] = {
    ClientCertificate.ABSENT: "without a client certificate",
    ClientCertificate.PRESENTED: "with a client certificate",
}


def _check(audit: Audit) -> Outcome:
    roles, verdicts = audit.roles, audit.verdicts
    inside = np.any([roles.client_is(role) for role in (NODE, POD, SERVICE, LOOPBACK)], axis=0)
    presented = verdicts.client_certificate.value == ClientCertificate.PRESENTED
    # A managed control plane may dial from addresses that no inventory lists (EKS): a Go client with a certificate.
    perhaps_apiserver = audit.evidence.client_is_go & presented
    outside = roles.client_is(USER) & ~inside
    scope = audit.on("user-to-kubelet")
    rows = np.flatnonzero(scope & outside & ~perhaps_apiserver)
    rows = rows[:1000]
    certificate = verdicts.client_certificate.value[rows].tolist()
    taken = (verdicts.server_verification.value[rows] == ServerVerification.UNVERIFIED).tolist()
    detail = {
        row: f"a caller {_WORDS.get(shown, 'whose certificate is not shown')}"
        + (" who did not check the kubelet's" if unchecked else "")
        for row, shown, unchecked in zip(rows.tolist(), certificate, taken, strict=True)
    }
    return outcome(
        scope=scope,
        decidable=audit.recognised & (inside | (outside & ~perhaps_apiserver)),
        violation=outside,
        grade=Grade.INFERRED,
        frames=[
            audit.evidence.tls_column("server_hello_frame"),
            audit.evidence.tls_column("client_flight_frame"),
            audit.evidence.flows.first_frame,
        ],
        detail=detail,
    )


KUBELET_EXPOSED = Rule(
    code="PW306",
    name="kubelet-reached-from-outside",
    title="A kubelet is reached from outside the cluster",
    severity=Severity.MEDIUM,
    channels=("user-to-kubelet",),
    needs="cluster facts, or enough traffic to tell the cluster's addresses",
    seen="an address that is neither control plane, node nor pod calls a kubelet",
    why="The kubelet runs commands in containers and reads their logs. Only the API server and collectors inside the "
    "cluster need to reach it; for everyone else its port is one misconfiguration away from control of the node.",
    remediation="Close port 10250 of the nodes to everything but the control plane and the cluster's own collectors; "
    "keep anonymous authentication off and authorization on.",
    flags=(
        "firewall: 10250/tcp from the control plane only",
        "KubeletConfiguration: authentication.anonymous.enabled: false, authorization.mode: Webhook",
    ),
    source="https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/",
    cis="CIS Kubernetes Benchmark 1.12: 4.2.1, 4.2.2",
    limits="An address that the inventory does not list, such as a load balancer or a second interface of a control "
    "plane host, looks like an outsider.",
    filter="tls.handshake",
    check=_check,
)
