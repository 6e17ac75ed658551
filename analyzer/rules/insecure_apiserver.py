"""PW105: the API server's insecure port answers."""

from __future__ import annotations

from analyzer.cluster.channels import INSECURE_APISERVER_PORT
from analyzer.cluster.roles import CONTROL_PLANE
from analyzer.decode.transport import TCP
from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    flows = audit.evidence.flows
    serves = audit.on("insecure-apiserver")
    port = (flows.port[:, 1] == INSECURE_APISERVER_PORT) & (flows.protocol == TCP)
    return outcome(
        scope=serves | (audit.connections & port & audit.roles.server_is(CONTROL_PLANE)),
        decidable=audit.recognised,
        violation=serves & audit.http,
        grade=Grade.OBSERVED,
        frames=[audit.evidence.identification.frame, flows.first_frame],
    )


INSECURE_APISERVER = Rule(
    code="PW105",
    name="insecure-apiserver-port",
    title="The API server's insecure port answers",
    severity=Severity.CRITICAL,
    channels=("insecure-apiserver",),
    needs="the first octets of a connection",
    seen="the Kubernetes API is served over plain HTTP on port 8080",
    why="The insecure port asks nobody who they are: whoever reaches it is cluster administrator, and what they send "
    "and get is readable on the way.",
    remediation="Upgrade: Kubernetes 1.20 no longer serves it. Before that, switch it off and move what uses it to the "
    "secure port.",
    flags=("kube-apiserver (before 1.24): --insecure-port=0",),
    source="https://kubernetes.io/docs/concepts/security/controlling-access/#transport-security",
    cis="",
    limits="Recognised by API paths on port 8080 of the control plane; a reverse proxy there looks the same.",
    filter="http",
    check=_check,
)
