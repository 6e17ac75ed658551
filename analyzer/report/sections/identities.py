"""Who was seen: addresses with their roles, certificates, fingerprints of clients, konnectivity agents."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.cluster.konnectivity import konnectivity_facts
from analyzer.protocols.tls import go_releases, kubernetes_releases
from analyzer.report.audit_result import Document, time_text
from analyzer.report.sections.connections import MAX_LISTED, ConnectionTable
from analyzer.report.sections.labels import STACKS
from analyzer.rules import Audit

_MAX_AGENTS: Final = 5000
"""Agents and nodes listed; the largest clusters that Kubernetes is tested for have as many nodes."""


def endpoints(audit: Audit, table: ConnectionTable) -> list[Document]:
    """Addresses of which something is known: their names, their roles, and why."""
    by_address: dict[int, list[Document]] = {
        row: [] for row, address in enumerate(table.address) if address in table.said_names
    }
    for statement in audit.roles.statements:
        by_address.setdefault(statement.address, []).append(
            {
                "role": statement.role,
                "grade": statement.grade.label,
                "reason": statement.reason,
                "frame": statement.frame,
                "capture": 0,
            }
        )
    names = audit.roles.names
    return [
        {
            "address": table.address[row],
            "names": [names[row]] if names.get(row) else [],
            "capture_names": table.said_names.get(table.address[row], []),
            "roles": roles,
        }
        for row, roles in sorted(by_address.items(), key=lambda item: audit.roles.addresses[item[0]].tobytes())
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
    ja4, ja3 = audit.evidence.tls_text("ja4"), audit.evidence.tls_text("ja3")
    stacks = audit.evidence.tls_column("client_stack").tolist()
    groups_offered = audit.evidence.tls_text("groups_offered")
    groups: dict[tuple[str, str, str], list[int]] = {}
    for row, key in enumerate(zip(ja4, ja3, stacks, strict=True)):
        if key[0] or key[1]:
            groups.setdefault((key[0], key[1], STACKS[key[2]]), []).append(row)
    return [
        {
            "ja4": key[0],
            "ja3": key[1],
            "stack": key[2],
            **_built_with(key[0], key[2], groups_offered[rows[0]]),
            "connections": int(audit.evidence.weight[rows].sum()),
            "channels": sorted({table.channel[r] for r in rows}),
            "clients": sorted({table.client_address[r] for r in rows})[:MAX_LISTED],
        }
        for key, rows in sorted(groups.items())
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
