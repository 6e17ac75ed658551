"""PW501: SSH tunnels carry control-plane traffic."""

from __future__ import annotations

import numpy as np

from analyzer.registries import Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    tunnel = audit.on("ssh-tunnel")
    banner = np.zeros(len(audit.evidence), bool)
    banner[[row for row, facts in audit.evidence.ssh.items() if facts.client_banner]] = True
    return outcome(
        scope=tunnel | audit.on("ssh-session"),
        decidable=banner | tunnel,
        violation=tunnel,
        grade=audit.channels.grade,
        frames=[audit.evidence.identification.frame, audit.evidence.flows.first_frame],
    )


SSH_TUNNEL = Rule(
    code="PW501",
    name="ssh-tunnel-in-use",
    title="The control plane reaches nodes through SSH tunnels",
    severity=Severity.MEDIUM,
    channels=("ssh-tunnel", "ssh-session"),
    needs="the SSH banner",
    seen="an SSH connection of the control plane's Go client to a node",
    why="SSH tunnels are deprecated and were removed in Kubernetes 1.22. They do not check the node's host key, so the "
    "tunnel itself can be intercepted.",
    remediation="Use the konnectivity service, and remove --ssh-user and --ssh-keyfile.",
    flags=("kube-apiserver: --egress-selector-config-file", "kube-apiserver (before 1.22): --ssh-user, --ssh-keyfile"),
    source="https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/#ssh-tunnels",
    cis="",
    limits="Another Go program on the control plane that uses SSH looks the same.",
    filter="ssh",
    check=_check,
)
