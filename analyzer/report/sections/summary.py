"""The summary of the document: one answer, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analyzer.cluster.roles import CONTROL_PLANE, ServiceKind
from analyzer.report.audit_result import AuditResult, Document
from analyzer.report.sections.counted import Counted
from analyzer.rules import Audit


def summary(document: Mapping[str, Any], result: AuditResult) -> Document:
    """The summary of a document whose other sections are there."""
    audit = result.audit
    counted = Counted(result)
    whole = counted.of(np.ones(counted.channel.shape[0], bool))
    by_verdict = dict.fromkeys(("at-risk", "sound", "undecidable", "informational"), 0)
    for channel in document["channels"]:
        by_verdict[channel["verdict"]] += 1
    by_severity = dict.fromkeys(("critical", "high", "medium", "low", "info"), 0)
    for finding in document["findings"]:
        by_severity[finding["severity"]] += finding["suppression"] is None
    not_judged = [
        f"{channel['title']}: {channel['sentence']}"
        for channel in document["channels"]
        if channel["verdict"] == "undecidable"
    ]
    return {
        "answer": _answer(document, by_verdict, by_severity, audit),
        "channels": by_verdict,
        "findings": by_severity,
        "suppressed": sum(finding["suppression"] is not None for finding in document["findings"]),
        "not_judged": not_judged + list(document["quality"]["notes"]),
        "connections": whole["connections"],
        **whole["encryption"],
    }


def _answer(
    document: Mapping[str, Any], by_verdict: Mapping[str, int], by_severity: Mapping[str, int], audit: Audit
) -> str:
    core = [c for c in document["channels"] if c["core"]]
    if not document["ledger"]["frames"]:
        return "The capture holds no packets."
    if not core:
        known = audit.roles.member[CONTROL_PLANE].any() or (audit.roles.kind() != ServiceKind.OTHER).any()
        hint = "" if known else " Was it taken on a node or control-plane host?"
        return f"No traffic between a control plane and its nodes was recognised in this capture.{hint}"
    parts = []
    risky = [c["title"] for c in core if c["verdict"] == "at-risk"]
    sound = [c["title"] for c in core if c["verdict"] == "sound"]
    unsure = [c["title"] for c in core if c["verdict"] == "undecidable"]
    if risky:
        parts.append(f"At risk: {', '.join(risky)}.")
    if unsure:
        parts.append(f"Not decidable from this capture: {', '.join(unsure)}.")
    if sound:
        parts.append(f"Sound: {', '.join(sound)}.")
    return " ".join(parts)
