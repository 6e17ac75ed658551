"""PW111: a NodePort is used in cleartext."""

from __future__ import annotations

from analyzer.registries import Encryption, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.encryption
    return outcome(
        scope=audit.on("nodeport") & audit.off_host,
        decidable=answer.value != Encryption.UNDECIDABLE,
        violation=answer.value == Encryption.CLEARTEXT,
        grade=answer.grade,
        frames=[audit.evidence.identification.frame, audit.evidence.flows.first_frame],
    )


NODEPORT_CLEARTEXT = Rule(
    code="PW111",
    name="nodeport-in-cleartext",
    title="A NodePort is used in cleartext",
    severity=Severity.INFO,
    channels=("nodeport",),
    needs="the first octets of a connection",
    seen="readable payload to a port of the NodePort range",
    why="A NodePort is open on every node, to every network that reaches one.",
    remediation="Serve TLS in the workload, or put an Ingress or Gateway with TLS in front and close the NodePort "
    "range to other networks.",
    flags=("Service: type: ClusterIP", "kube-proxy: --nodeport-addresses"),
    source="https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport",
    cis="",
    limits="Recognised by the default range 30000-32767 on a node's address.",
    filter="tcp.len > 0",
    check=_check,
)
