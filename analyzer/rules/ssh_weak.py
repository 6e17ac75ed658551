"""PW503: SSH negotiates weak algorithms."""

from __future__ import annotations

import numpy as np

from analyzer.registries import Grade, Protocol, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

CHANNELS = ("ssh-tunnel", "ssh-session")


def _check(audit: Audit) -> Outcome:
    n = len(audit.evidence)
    read, weak = np.zeros(n, bool), np.zeros(n, bool)
    client, server = np.zeros(n, np.int64), np.zeros(n, np.int64)
    detail: dict[int, str] = {}
    for flow, facts in audit.evidence.ssh.items():
        read[flow], weak[flow] = bool(facts.negotiated), bool(facts.weak)
        client[flow], server[flow] = facts.client_frame, facts.server_frame
        if facts.weak:
            detail[flow] = ", ".join(f"{name}: {why}" for name, why in facts.weak)
    return outcome(
        scope=audit.connections & (audit.evidence.identification.protocol == Protocol.SSH),
        decidable=read,
        violation=weak,
        grade=Grade.OBSERVED,
        frames=[client, server, audit.evidence.flows.first_frame],
        detail=detail,
    )


SSH_WEAK = Rule(
    code="PW503",
    name="weak-ssh-algorithms",
    title="SSH negotiates weak algorithms",
    severity=Severity.MEDIUM,
    channels=CHANNELS,
    needs="the key exchange offers of both sides",
    seen="an SSH connection settles on algorithms that should no longer be used",
    why="Old key exchanges, ciphers and hashes can be broken or forged by those who record or sit on the path; SSH "
    "gives control of the node, and as a tunnel carries everything the API server sends to it.",
    remediation="Update the older end and take these algorithms out of the server's lists.",
    flags=("sshd_config: KexAlgorithms, HostKeyAlgorithms, Ciphers, MACs", "sshd -T; ssh -Q kex"),
    source="https://www.rfc-editor.org/rfc/rfc9142",
    cis="",
    limits="What both sides offer first is judged, as the protocol settles it; what they would also accept is not.",
    filter="ssh",
    check=_check,
)
