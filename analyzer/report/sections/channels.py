"""The channels of the document: what was answered of each, and one word for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analyzer.cluster.catalogue import Channel
from analyzer.numbers import distinct
from analyzer.registries import Severity
from analyzer.report.audit_result import AuditResult, Document
from analyzer.report.sections.connections import ConnectionTable
from analyzer.report.sections.counted import Counted
from analyzer.rules import Finding


def channel_rows(result: AuditResult, table: ConnectionTable) -> list[Document]:
    """Every channel that a connection belongs to, those at risk first."""
    rows: list[Document] = []
    audit, findings = result.audit, result.findings
    whole = audit.connections
    counted = Counted(result)
    present = distinct(np.concatenate([audit.channels.channel, counted.channel]))
    order = {"at-risk": 0, "undecidable": 1, "sound": 2, "informational": 3}
    for number in present.tolist():
        channel = table.catalogue[number]
        every = np.flatnonzero(audit.channels.channel == number)
        here = every[whole[every]]
        concerning = [f for f in findings if f.channel == channel.id]
        row: Document = {
            "id": channel.id,
            "title": channel.title,
            "direction": channel.direction,
            "client_role": channel.client,
            "server_role": channel.server,
            "expects": channel.expects,
            "default": channel.default,
            "source": channel.source,
            "core": channel.core,
            **counted.of(counted.channel == number),
            "legs": int(every.shape[0] - here.shape[0]),
            "clients": table.addresses_of(audit.roles.client[here]),
            "servers": table.addresses_of(audit.roles.server[here]),
            "findings": sorted({f.rule.code for f in concerning}),
        }
        row["verdict"], row["sentence"] = _verdict(row, channel, concerning)
        rows.append(row)
    rows.sort(key=lambda r: (order[r["verdict"]], not r["core"], r["id"]))
    return rows


def _verdict(row: Document, channel: Channel, findings: Sequence[Finding]) -> tuple[str, str]:
    """One word and one sentence for a channel, from its counts and findings; undecidable is never sound."""
    encryption, verification = row["encryption"], row["server_verification"]
    judged = row["connections"] - row["silent"]
    worst = max((f.rule.severity for f in findings), default=Severity.INFO)
    if judged == 0:
        return "undecidable", "No payload was exchanged on this channel."
    if worst >= Severity.MEDIUM:
        titles = sorted({f.rule.title for f in findings if f.rule.severity >= Severity.MEDIUM})
        return "at-risk", "; ".join(titles) + "."
    if channel.expects == "any" or (not channel.core and channel.expects == "cleartext-by-default"):
        return "informational", f"{encryption['encrypted']} of {judged} connections are encrypted."
    if channel.core and encryption["cleartext"]:
        return "at-risk", f"{encryption['cleartext']} of {judged} connections are in cleartext."
    if not channel.core:
        return "informational", f"{encryption['encrypted']} of {judged} connections are encrypted."
    if encryption["encrypted"] < judged:
        return (
            "undecidable",
            f"Whether {judged - encryption['encrypted']} of {judged} connections are encrypted is open.",
        )
    if channel.expects == "encrypted":
        return "sound", f"{_all(judged)} encrypted."
    if verification["verified"] + verification["refused"] < judged:
        open_ones = judged - verification["verified"] - verification["refused"]
        return (
            "undecidable",
            f"{_all(judged)} encrypted; whether the client checks the server is open for {open_ones}.",
        )
    certificates = row["client_certificate"]["presented"]
    return "sound", (
        f"{_all(judged)} encrypted and the server is checked; {certificates} of {judged} present a client certificate."
    )


def _all(count: int) -> str:
    return "The one connection is" if count == 1 else f"All {count} connections are"
