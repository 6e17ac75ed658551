"""PW502: konnectivity is deployed and control-plane traffic goes around it."""

from __future__ import annotations

import numpy as np

from analyzer.cluster.roles import CONTROL_PLANE
from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.rules.cleartext_proxy import CHANNELS as PROXIES


def _check(audit: Audit) -> Outcome:
    agents = audit.on("konnectivity-agent-to-server") & audit.evidence.carried_payload
    to_nodes = audit.on("apiserver-to-kubelet", *PROXIES)
    direct = to_nodes & audit.roles.client_is(CONTROL_PLANE) & (audit.evidence.carrier < 0)
    return outcome(
        scope=to_nodes if agents.any() else np.zeros_like(to_nodes),
        decidable=audit.recognised,
        violation=direct,
        grade=Grade.INFERRED,
        frames=[audit.evidence.flows.first_frame],
    )


KONNECTIVITY_BYPASS = Rule(
    code="PW502",
    name="konnectivity-bypassed",
    title="Control-plane traffic goes around the konnectivity tunnel",
    severity=Severity.MEDIUM,
    channels=("apiserver-to-kubelet", *PROXIES),
    needs="traffic of konnectivity agents in the same capture",
    seen="direct connections from the control plane to nodes or pods while konnectivity agents are connected",
    why="With konnectivity in place, all traffic from the control plane to the cluster should go through it; what goes "
    "around it shows that the egress selector is missing or does not cover it.",
    remediation="Give every API server the egress selector with a cluster entry, and close the direct path in the "
    "firewall.",
    flags=(
        "kube-apiserver: --egress-selector-config-file",
        "EgressSelectorConfiguration: egressSelections[].name: cluster",
    ),
    source="https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/#konnectivity-service",
    cis="",
    limits="That the agents' connection was in use at the same time is inferred from its traffic.",
    filter="tcp.flags.syn == 1 || tls.handshake",
    check=_check,
)
