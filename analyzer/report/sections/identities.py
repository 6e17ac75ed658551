"""Who was seen: addresses with their roles, certificates, fingerprints of clients, konnectivity agents."""

from __future__ import annotations

from operator import itemgetter
from typing import Final

import numpy as np

from analyzer.cluster.konnectivity import konnectivity_facts
from analyzer.numbers import distinct
from analyzer.protocols.tls import go_releases, kubernetes_releases
from analyzer.registries import Grade
from analyzer.report.audit_result import Document, time_text
from analyzer.report.sections.connections import MAX_LISTED, ConnectionTable
from analyzer.report.sections.labels import STACKS
from analyzer.rules import Audit
from analyzer.schema import I64

_MAX_AGENTS: Final = 5000
"""Agents and nodes listed; the largest clusters that Kubernetes is tested for have as many nodes."""


def endpoints(audit: Audit, table: ConnectionTable) -> list[Document]:
    """Addresses of which something is known: their names, their roles, and why."""
    by_address: dict[int, list[Document]] = {
        row: [] for row, address in enumerate(table.address if table.said_names else ()) if address in table.said_names
    }
    labels = {grade: grade.label for grade in Grade}
    for address, role, grade, reason, frame in audit.roles.statements:
        by_address.setdefault(address, []).append(
            {"role": role, "grade": labels[grade], "reason": reason, "frame": frame, "capture": 0}
        )
    names = audit.roles.names
    words = audit.roles.addresses.view(">u8")
    return [
        {
            "address": table.address[row],
            "names": [names[row]] if names.get(row) else [],
            "capture_names": table.said_names.get(table.address[row], []),
            "roles": by_address[row],
        }
        for row in np.lexsort((words[:, 1], words[:, 0])).tolist()
        if row in by_address
    ]


def certificates(audit: Audit, table: ConnectionTable) -> list[Document]:
    """Certificates by who presented them, those that end first first."""
    reading = audit.evidence.tls
    rows: list[Document] = []
    seen: dict[tuple[int, str], list[int]] = {}
    for side in ("server", "client"):
        index = audit.evidence.tls_column(f"{side}_chain", -1)
        for flow in np.flatnonzero(index >= 0).tolist():
            for certificate in reading.chains[int(index[flow])]:
                seen.setdefault((certificate, side), []).append(flow)
    for (number, side), flows in seen.items():
        one = reading.certificates[number]
        rows.append(
            {
                "subject": one.subject or one.problem,
                "issuer": one.issuer,
                "names": [*one.dns_names, *one.ip_addresses],
                "not_before": time_text(one.not_before_ns),
                "not_after": time_text(one.not_after_ns),
                "key": one.key,
                "self_signed": one.self_signed,
                "kubelet_self_made": one.kubelet_self_made,
                "sha256": one.sha256,
                "seen_as": side,
                "channels": sorted({table.channel[flow] for flow in flows}),
                "connections": int(audit.evidence.weight[flows].sum()),
            }
        )
    rows.sort(key=lambda r: (r["not_after"] or "", r["sha256"], r["seen_as"]))
    return rows


def fingerprints(audit: Audit, table: ConnectionTable) -> list[Document]:
    """Clients by the ClientHello they send."""
    evidence, names = audit.evidence, [channel.id for channel in table.catalogue]
    strings = [*evidence.tls.strings, ""]
    ja4, ja3 = evidence.tls_column("ja4", -1), evidence.tls_column("ja3", -1)
    stack, groups_offered = evidence.tls_column("client_stack"), evidence.tls_column("groups_offered", -1)
    told = np.array([bool(text) for text in strings], bool)
    flows = np.flatnonzero(told[ja4] | told[ja3])
    code = ((ja4 + 1) * len(strings) + ja3 + 1) * len(STACKS) + stack
    _, which = np.unique(code[flows], return_inverse=True)
    groups: dict[tuple[str, str, str], I64] = {}
    for rows in np.split(flows[np.argsort(which, kind="stable")], np.cumsum(np.bincount(which))[:-1]):
        for row in rows[:1].tolist():
            key = (strings[ja4[row]], strings[ja3[row]], STACKS[stack[row]])
            groups[key] = np.sort(np.append(groups.get(key, rows[:0]), rows))  # no text and an empty one are alike
    return [
        {
            "ja4": key[0],
            "ja3": key[1],
            "stack": key[2],
            **_built_with(key[0], key[2], strings[groups_offered[rows[0]]]),
            "connections": int(evidence.weight[rows].sum()),
            "channels": sorted(names[row] for row in distinct(audit.channels.channel[rows]).tolist()),
            "clients": sorted(table.address[row] for row in distinct(audit.roles.client[rows]).tolist())[:MAX_LISTED],
        }
        for key, rows in sorted(groups.items(), key=itemgetter(0))
    ]


def _built_with(ja4: str, stack: str, groups: str) -> Document:
    """Go releases that send this hello, and the Kubernetes releases known to be built with them: ranges, inferred."""
    releases = list(go_releases(ja4, groups)) if stack == STACKS[1] else []
    known = kubernetes_releases()
    return {"go": releases, "kubernetes": [known[release] for release in releases if release in known]}


def konnectivity(audit: Audit, table: ConnectionTable) -> Document:
    """The konnectivity service: agents, nodes without, and what goes through the tunnel or around it."""
    facts = konnectivity_facts(audit.evidence, audit.roles, audit.channels)
    names = audit.roles.names
    return {
        "agents": [
            {
                "address": table.address[agent.address],
                "name": names.get(agent.address, ""),
                "server": table.address[agent.server],
                "port": agent.port,
                "connections": agent.connections,
                "refused": agent.refused,
                "reconnects": agent.reconnects,
                "open_at_end": agent.open_at_end,
                "octets_to_agent": agent.octets_to_agent,
                "octets_from_agent": agent.octets_from_agent,
                "in_use": agent.in_use,
                "carried": agent.carried,
                "first_frame": agent.first_frame,
            }
            for agent in facts.agents[:_MAX_AGENTS]
        ],
        "agent_count": len(facts.agents),
        "nodes_without_agent": [names.get(row) or table.address[row] for row in facts.nodes_without[:_MAX_AGENTS]],
        "through_tunnel": int(facts.through.sum()) if facts.agents else 0,
        "around_tunnel": int(facts.around.sum()) if facts.agents else 0,
    }
