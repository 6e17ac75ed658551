"""The audit as one plain document: what the JSON output holds, and what every other output is drawn from.

Each section is made in a module of `analyzer.report.sections`.
"""

from __future__ import annotations

from analyzer import __version__
from analyzer.report.audit_result import AuditResult, Document
from analyzer.report.numbering import Numbering
from analyzer.report.outcome import exit_status
from analyzer.report.schema_document import SCHEMA_VERSION
from analyzer.report.sections import identities, inputs
from analyzer.report.sections.channels import channel_rows
from analyzer.report.sections.connections import ConnectionTable
from analyzer.report.sections.departed import departed
from analyzer.report.sections.findings import finding_entry, rule_entry, suppressions
from analyzer.report.sections.summary import summary
from analyzer.report.sections.timeline import timeline


def build_document(result: AuditResult, fail_on: str = "high") -> Document:
    """Make the document; the same audit gives the same document, octet for octet when written.

    Parameters
    ----------
    result : AuditResult
    fail_on : str
        Severity from which findings fail the run, or ``never``.
    """
    audit = result.audit
    numbering = Numbering([c.first_number for c in result.captures], [c.name for c in result.captures])
    table = ConnectionTable(audit, result.inputs)
    findings = [finding_entry(finding, table) for finding in result.findings]
    columns = table.columns()
    channels = channel_rows(result, table)
    document: Document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "planewire", "version": __version__},
        "captures": [inputs.capture_entry(capture) for capture in result.captures],
        "vantage_points": inputs.vantage_points(result),
        "clock_skews": inputs.clock_skews(result),
        "skipped": inputs.skipped_files(result.inputs),
        "cluster": inputs.cluster_facts(result.cluster),
        "quality": inputs.quality_notes(result),
        "ledger": inputs.books(result),
        "endpoints": identities.endpoints(audit, table),
        "connections": {"columns": list(columns), "data": columns},
        "channels": channels,
        "findings": findings,
        "suppressions": suppressions(result),
        "rules": [rule_entry(count) for count in result.counts],
        "certificates": identities.certificates(audit, table),
        "fingerprints": identities.fingerprints(audit, table),
        "konnectivity": identities.konnectivity(audit, table),
        "timeline": timeline(audit, [row["id"] for row in channels]),
    }
    if result.aged_out is not None:
        document["aged_out"] = departed(result.aged_out, audit, table)
    document["summary"] = summary(document, result)
    numbering.settle(document)
    document["outcome"] = {"fail_on": fail_on, "exit_status": exit_status(document, fail_on)}
    return document


def at_a_glance(result: AuditResult) -> tuple[list[Document], list[Document]]:
    """The document's ``channels`` and ``findings`` alone."""
    table = ConnectionTable(result.audit, result.inputs)
    return channel_rows(result, table), [finding_entry(f, table) for f in result.findings]
