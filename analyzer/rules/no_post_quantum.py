"""PW405: the key exchange is not post-quantum."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.registries import Grade, Severity, TlsVersion
from analyzer.rules.base import Audit, Outcome, Rule, outcome

POST_QUANTUM: Final = (512, 513, 514, 4587, 4588, 4589, 25497, 25498)
"""ML-KEM alone (512-514), its hybrids (4587-4589), and the Kyber drafts Go 1.23 and Chrome used (IANA registry)."""

CHANNELS = tuple(channel.id for channel in channels() if channel.core)


def _check(audit: Audit) -> Outcome:
    group, version = audit.evidence.tls_column("group"), audit.evidence.tls_column("version")
    chosen = audit.evidence.tls_column("server_hello_seen") == 1
    return outcome(
        scope=audit.on(*CHANNELS) & (audit.evidence.tls_row >= 0),
        decidable=(group > 0) | (chosen & (version < TlsVersion.TLS_1_3)),
        violation=~np.isin(group, POST_QUANTUM),
        grade=Grade.OBSERVED,
        frames=[audit.evidence.tls_column("server_hello_frame")],
        detail={
            int(row): "TLS below 1.3, which has no post-quantum key exchange"
            for row in np.flatnonzero(chosen & (version < TlsVersion.TLS_1_3))[:1000]
        },
    )


NO_POST_QUANTUM = Rule(
    code="PW405",
    name="no-post-quantum-key-exchange",
    title="The key exchange does not withstand a quantum computer",
    severity=Severity.INFO,
    channels=CHANNELS,
    needs="a ServerHello",
    seen="a key exchange without ML-KEM",
    why="Traffic that is recorded today can be read once a large quantum computer exists. Components built with Go "
    "1.24 or later agree on X25519MLKEM768 by themselves.",
    remediation="Upgrade the older end: Kubernetes 1.33 and later, etcd and plugins built with Go 1.24 or later, TLS "
    "1.3 on both sides.",
    flags=("kube-apiserver: --tls-min-version=VersionTLS13", "KubeletConfiguration: tlsMinVersion: VersionTLS13"),
    source="https://kubernetes.io/blog/2025/07/18/pqc-in-k8s/",
    cis="",
    limits="Only the channels of the control plane are judged.",
    filter="tls.handshake.type == 2",
    check=_check,
)
