"""PW106: scheduler or controller manager answer in cleartext."""

from __future__ import annotations

from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

CHANNELS = ("controller-manager", "scheduler")


def _check(audit: Audit) -> Outcome:
    return outcome(
        scope=audit.on(*CHANNELS) & audit.off_host,
        decidable=audit.recognised,
        violation=audit.http,
        grade=Grade.OBSERVED,
        frames=[audit.evidence.identification.frame, audit.evidence.flows.first_frame],
    )


INSECURE_COMPONENT_PORT = Rule(
    code="PW106",
    name="insecure-component-port",
    title="Scheduler or controller manager answer in cleartext",
    severity=Severity.MEDIUM,
    channels=CHANNELS,
    needs="the first octets of a connection",
    seen="plain HTTP to a scheduler or controller manager from another host",
    why="The ports 10251 and 10252 answer anyone with metrics, health and, where profiling is on, the memory of the "
    "process. Their successors 10259 and 10257 speak TLS and ask who calls.",
    remediation="Upgrade: the insecure ports are gone since Kubernetes 1.24. Before that, switch them off and scrape "
    "the secure ports with a token.",
    flags=(
        "kube-scheduler, kube-controller-manager (before 1.24): --port=0",
        "kube-scheduler, kube-controller-manager: --bind-address=127.0.0.1",
    ),
    source="https://kubernetes.io/docs/reference/networking/ports-and-protocols/",
    cis="CIS Kubernetes Benchmark 1.12: 1.3.7, 1.4.2",
    limits="Recognised by port.",
    filter="http",
    check=_check,
)
