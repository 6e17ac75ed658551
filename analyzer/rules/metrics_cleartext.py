"""PW108: metrics are read in cleartext from another host."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

CHANNELS = ("component-health", "kube-proxy-metrics")
_HEALTH: Final = ("/healthz", "/livez", "/readyz", "/health")
"""Health probes from load balancers are what those ports are for, and they tell nothing but that."""


def _check(audit: Audit) -> Outcome:
    evidence = audit.evidence
    first = evidence.first_asked(lambda r: not r.target.split("?", 1)[0].rstrip("/").startswith(_HEALTH))
    return outcome(
        scope=audit.on(*CHANNELS) & audit.off_host,
        decidable=audit.recognised & (evidence.asked() | ~audit.http),
        violation=(first >= 0) & audit.http,
        grade=Grade.OBSERVED,
        frames=[np.append(evidence.http.frame, 0)[first], evidence.flows.first_frame],
    )


METRICS_CLEARTEXT = Rule(
    code="PW108",
    name="metrics-in-cleartext",
    title="Component metrics are read in cleartext across the network",
    severity=Severity.LOW,
    channels=CHANNELS,
    needs="HTTP requests in clear",
    seen="plain HTTP to a metrics port from another host",
    why="These ports are meant for loopback. Metrics name pods, nodes and request paths, and some components serve "
    "profiling beside them; nobody is asked who they are.",
    remediation="Bind the metrics to loopback and scrape them through a proxy on the node that authenticates.",
    flags=(
        "KubeProxyConfiguration: metricsBindAddress: 127.0.0.1:10249",
        "etcd: --listen-metrics-urls=http://127.0.0.1:2381",
    ),
    source="https://kubernetes.io/docs/concepts/cluster-administration/system-metrics/",
    cis="CIS Kubernetes Benchmark 1.12: 4.3.1",
    limits="Recognised by port. Requests for health alone are not counted.",
    filter="http",
    check=_check,
)
