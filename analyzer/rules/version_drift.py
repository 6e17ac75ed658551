"""PW603: nodes run different versions."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from analyzer.cluster.roles import CONTROL_PLANE, NODE
from analyzer.protocols.tls import go_releases
from analyzer.registries import Grade, Severity, Ternary
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    evidence, roles = audit.evidence, audit.roles
    here = audit.on("node-to-apiserver") & evidence.client_is_go
    here &= roles.client_is(NODE) & ~roles.client_is(CONTROL_PLANE)
    component = evidence.tls_column("client_key", -1)
    known = here & evidence.tls_is("client_certificate", Ternary.YES) & (component >= 0)
    ja4, groups = evidence.tls_text("ja4"), evidence.tls_text("groups_offered")
    # A kubelet and a kube-proxy of one node are told apart by their keys, and compared with those of other nodes.
    builds: dict[int, dict[int, set[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(set))
    said: dict[int, tuple[str, ...]] = {}
    for row in np.flatnonzero(known).tolist():
        said[row] = go_releases(ja4[row], groups[row]) or (ja4[row].split("_", 1)[-1],)
        builds[int(component[row])][int(roles.client[row])].add(said[row])
    violation, decidable = np.zeros(len(evidence), bool), np.zeros(len(evidence), bool)
    detail: dict[int, str] = {}
    for kind, nodes in builds.items():
        rows = np.flatnonzero(known & (component == kind))
        if len(nodes) < 2:
            continue
        decidable[rows] = True
        most = Counter(build for node in nodes.values() for build in node).most_common(1)[0][0]
        for row in rows.tolist():
            if most not in nodes[int(roles.client[row])]:
                violation[row] = True
                name = roles.names.get(int(roles.client[row]), "") or "a node"
                detail[row] = f"{name}: {_told(said[row])}, most others {_told(most)}"
    grade = np.full(len(evidence), Grade.INFERRED, np.uint8)
    versions = audit.declared.node_versions
    if len(set(versions.values())) > 1:
        usual = Counter(versions.values()).most_common(1)[0][0]
        for row in np.flatnonzero(here).tolist():
            version = versions.get(roles.addresses[roles.client[row]].tobytes(), usual)
            decidable[row] = True
            if version != usual:
                violation[row], grade[row] = True, Grade.DECLARED
                name = roles.names.get(int(roles.client[row]), "") or "a node"
                detail[row] = f"{name} runs kubelet {version} by the inventory, most others {usual}"
    elif versions:
        decidable |= here
    return outcome(
        scope=here,
        decidable=decidable,
        violation=violation,
        grade=grade,
        frames=[evidence.tls_column("client_hello_frame"), evidence.flows.first_frame],
        detail=detail,
    )


def _told(build: tuple[str, ...]) -> str:
    known = build[0][0].isdigit() and "." in build[0]
    return f"Go {build[0]}" + (f" to {build[-1]}" if len(build) > 1 else "") if known else f"ClientHello {build[0]}"


VERSION_DRIFT = Rule(
    code="PW603",
    name="node-version-drift",
    title="Nodes run different versions",
    severity=Severity.INFO,
    channels=("node-to-apiserver",),
    needs="ClientHellos of two nodes, or the Node objects",
    seen="the same component of different nodes is built differently",
    why="A node that an upgrade left behind misses its security fixes. During a rolling upgrade this is normal.",
    remediation="Bring all nodes to one version; kubelets may be three minor versions older than the API server at "
    "most.",
    flags=("kubeadm upgrade node; kubectl get nodes",),
    source="https://kubernetes.io/releases/version-skew-policy/",
    cis="",
    limits="A ClientHello tells the release of Go, not that of Kubernetes; kubelet and other programs are told apart "
    "by the type of their key.",
    filter="tls.handshake.type == 1",
    check=_check,
)
