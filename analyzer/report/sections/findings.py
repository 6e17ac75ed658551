"""The findings of the document, what was accepted of them, and how every rule answered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from analyzer.numbers import distinct
from analyzer.report.audit_result import AuditResult, Document
from analyzer.report.filters import with_frames
from analyzer.report.sections.connections import MAX_LISTED, ConnectionTable, first_distinct
from analyzer.report.sections.labels import TRANSPORTS
from analyzer.rules import Finding, Rule, RuleCount
from analyzer.rules.suppressions import Suppression
from analyzer.schema import I64


def finding_entry(finding: Finding, table: ConnectionTable) -> Document:
    """One finding: what was seen, why it matters, what changes it, and the evidence."""
    audit, rule = table.audit, finding.rule
    rows = np.array(finding.connections, np.int64)
    count = int(audit.evidence.weight[rows].sum())
    servers = first_distinct(audit.roles.server[rows], len(table.address))
    grades = ", ".join(f"{n} {grade}" for grade, n in finding.grades.items())
    message = (
        f"{rule.seen[0].upper()}{rule.seen[1:]}: {count} connection{'s' if count != 1 else ''} to "
        f"{len(servers)} host{'s' if len(servers) != 1 else ''} ({grades})."
    )
    if finding.detail:
        details = "; ".join(finding.detail)
        message += f" {details[0].upper()}{details[1:]}."
    services, place = table.services
    keys = [services[row] for row in distinct(place[audit.roles.service[rows]]).tolist()]
    digest = hashlib.sha256("\n".join([rule.code, finding.channel, *keys]).encode()).hexdigest()
    return {
        "id": f"{rule.code}/{finding.channel}",
        "code": rule.code,
        "name": rule.name,
        "title": rule.title,
        "severity": rule.severity.label,
        "grade": finding.grade.label,
        "channel": finding.channel,
        "message": message,
        "why": rule.why,
        "remediation": rule.remediation,
        "flags": list(rule.flags),
        "source": rule.source,
        "cis": rule.cis,
        "hosts": _hosts(table, servers),
        "connections": list(finding.connections),
        "frames": list(finding.frames),
        "evidence": [{"capture": 0, "frames": list(finding.frames)}] if finding.frames else [],
        "filter": _display_filter(rule, table, rows, finding.frames),
        "limits": rule.limits,
        "fingerprint": digest[:32],
        "suppression": None if finding.suppression is None else _suppression(finding.suppression),
    }


def _hosts(table: ConnectionTable, servers: I64) -> list[str]:
    """The first servers concerned, by name where known; for what a client does wrong, its server still says where."""
    names = table.audit.roles.names
    shown = servers[:MAX_LISTED].tolist()
    return [f"{table.address[i]} ({names[i]})" if names.get(i) else table.address[i] for i in shown]


def _one_of_each_end(table: ConnectionTable, rows: I64) -> I64:
    """The first of `rows` for each server address, port and transport, in their order."""
    flows = table.flows
    end = table.audit.roles.server[rows] << 24 | flows.port[rows, 1].astype(np.int64) << 8 | flows.protocol[rows]
    _, first = np.unique(end, return_index=True)
    return rows[np.sort(first)]


def _display_filter(rule: Rule, table: ConnectionTable, rows: I64, frames: Sequence[int]) -> str:
    """The rule's filter, narrowed to the first few server endpoints of the finding, and the evidence by number.

    Wireshark shows a message in the frame that completes it, and reads some protocols on their usual ports only: the
    numbers hold what its fields would miss.
    """
    flows = table.flows
    endpoints: dict[str, None] = {}
    for row in _one_of_each_end(table, rows).tolist():
        address = table.server_address[row]
        field_name = "ipv6.addr" if ":" in address else "ip.addr"
        transport = TRANSPORTS.get(int(flows.protocol[row]), "")
        port = f" && {transport}.port == {flows.port[row, 1]}" if transport in ("tcp", "udp") else ""
        endpoints[f"({field_name} == {address}{port})"] = None
        if len(endpoints) == 4:
            break
    where = " || ".join(endpoints)
    around = f"({where}) && ({rule.filter})" if len(endpoints) > 1 else f"{where} && ({rule.filter})"
    return with_frames(around, frames)


def suppressions(result: AuditResult) -> Document:
    """Every entry handed over: what it took out of the count, or why it took nothing."""
    given = result.suppressions
    live = set(given.live())
    covered = dict.fromkeys(given.entries, 0)
    for finding in result.findings:
        if finding.suppression is not None:
            covered[finding.suppression] += len(finding.connections)
    return {
        "as_of": given.as_of.isoformat() if given.as_of else None,
        "entries": [
            {
                "code": entry.code,
                **_suppression(entry),
                "status": "expired" if row not in live else "applied" if covered[entry] else "unused",
                "connections": covered[entry],
            }
            for row, entry in enumerate(given.entries)
        ],
    }


def _suppression(entry: Suppression) -> Document:
    return {
        "reason": entry.reason,
        "author": entry.author,
        "expires": entry.expires.isoformat(),
        "channel": entry.channel,
        "server": entry.server.text,
        "client": entry.client.text,
        "source": f"{entry.source}, line {entry.line}",
    }


def rule_entry(count: RuleCount) -> Document:
    """One rule: its documentation, and how it answered."""
    rule = count.rule
    return {
        "code": rule.code,
        "name": rule.name,
        "title": rule.title,
        "severity": rule.severity.label,
        "channels": list(rule.channels),
        "needs": rule.needs,
        "why": rule.why,
        "remediation": rule.remediation,
        "flags": list(rule.flags),
        "source": rule.source,
        "cis": rule.cis,
        "limits": rule.limits,
        "status": rule.status,
        "counts": {
            "violation": count.violation,
            "compliant": count.compliant,
            "undecidable": count.undecidable,
            "not_observed": count.not_observed,
        },
    }
