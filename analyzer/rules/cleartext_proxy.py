"""PW101: the API server's proxy speaks plain HTTP."""

from __future__ import annotations

from analyzer.registries import Encryption, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

CHANNELS = ("apiserver-to-node-proxy", "apiserver-to-pod-proxy", "apiserver-to-service-proxy")


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.encryption
    scope = audit.on(*CHANNELS)
    return outcome(
        scope=scope,
        decidable=answer.value != Encryption.UNDECIDABLE,
        violation=answer.value == Encryption.CLEARTEXT,
        grade=answer.grade,
        frames=[audit.evidence.identification.frame, audit.evidence.flows.first_frame],
    )


CLEARTEXT_PROXY = Rule(
    code="PW101",
    name="cleartext-apiserver-proxy",
    title="The API server's proxy reaches nodes, pods or services in cleartext",
    severity=Severity.HIGH,
    channels=CHANNELS,
    needs="the first octets of a connection",
    seen="requests relayed by the API server travel as plain HTTP",
    why="Connections from the API server to a node, pod or service are plain HTTP by default and therefore neither "
    "authenticated nor encrypted: whoever is on the path reads and changes them.",
    remediation="Ask for the https: scheme in the proxy URL (still unverified), or reach the workload through an "
    "Ingress, a Service with TLS or kubectl port-forward; take the right to the proxy subresources away from those who "
    "do not need it.",
    flags=(
        "/api/v1/namespaces/NAMESPACE/services/https:NAME:PORT/proxy/",
        "RBAC: pods/proxy, services/proxy, nodes/proxy",
    ),
    source="https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/"
    "#api-server-to-nodes-pods-and-services",
    cis="CIS Kubernetes Benchmark 1.12: 5.1.10",
    limits="A service proxy request to a pod that already has a proxy connection runs on that one: pod and service "
    "proxy cannot be told apart then.",
    filter="http",
    check=_check,
)
