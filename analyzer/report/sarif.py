"""The findings as SARIF 2.1.0, for code scanning and other dashboards.

One run, one result a finding. Rules come with their documentation whether they found something or not. Nothing
depends on the clock: the same document gives the same octets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from analyzer.report.outcome import FINDINGS, INCOMPLETE
from analyzer.report.schema_document import CaptureEntry, Document, FindingEntry, RuleEntry, as_document
from analyzer.report.text import visible

SCHEMA_URI: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

LEVELS: Final = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
"""SARIF level (3.27.10) of each severity."""
_SCORES: Final = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0", "info": "0.0"}
"""``security-severity``, by which code scanning sorts: above 9.0 critical, 7.0 high, 4.0 medium."""
_OUTCOMES: Final = {
    FINDINGS: "findings at or above the threshold",
    INCOMPLETE: "read, but the capture is damaged or lacks frames",
}


def sarif_text(document: Mapping[str, Any]) -> str:
    """Return the findings as SARIF, in ASCII, with one line end at the end.

    Parameters
    ----------
    document : mapping
        A report document (`analyzer.report.schema_document.Document`).
    """
    return json.dumps(sarif_log(document), indent=1, sort_keys=True, allow_nan=False) + "\n"


def sarif_log(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the findings as a SARIF log (3.13)."""
    typed = as_document(document)
    index = {rule["code"]: row for row, rule in enumerate(typed["rules"])}
    return {
        "$schema": SCHEMA_URI,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": visible(typed["tool"]["name"]),
                        "version": visible(typed["tool"]["version"]),
                        "rules": [_rule(rule) for rule in typed["rules"]],
                    }
                },
                "invocations": [_invocation(typed)],
                "artifacts": [_artifact(capture) for capture in typed["captures"]],
                "results": [_result(finding, typed, index) for finding in typed["findings"]],
                "columnKind": "unicodeCodePoints",
                "properties": {
                    "answer": visible(typed["summary"]["answer"]),
                    "connections": typed["summary"]["connections"],
                    "findings": {**typed["summary"]["findings"]},
                    "suppressed": typed["summary"]["suppressed"],
                    "notJudged": [visible(note) for note in typed["summary"]["not_judged"]],
                },
            }
        ],
    }


def _message(text: str) -> dict[str, str]:
    r"""Make a message object (3.11): brackets would be links (3.11.6) and braces placeholders (3.11.5)."""
    inert = visible(text).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    return {"text": inert.replace("{", "{{").replace("}", "}}")}


def _rule(rule: RuleEntry) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "tags": ["security", "kubernetes", "network"],
        "severity": rule["severity"],
        "security-severity": _SCORES[rule["severity"]],
        "status": rule["status"],
        "counts": {**rule["counts"]},
    }
    properties |= {name: rule[name] for name in ("cis", "limits") if rule[name]}
    change = "".join(f"\n{flag}" for flag in rule["flags"])
    described: dict[str, Any] = {
        "id": rule["code"],
        "name": _pascal(rule["name"]),
        "shortDescription": _message(rule["title"]),
        "fullDescription": _message(rule["why"]),
        "help": {"text": _message(rule["remediation"])["text"] + _flags(change)},
        "defaultConfiguration": {"level": LEVELS[rule["severity"]]},
        "properties": properties,
    }
    if rule["source"].startswith("https://"):
        described["helpUri"] = rule["source"]
    return described


def _flags(text: str) -> str:
    return "\n".join(_message(line)["text"] for line in text.split("\n"))


def _pascal(name: str) -> str:
    """Rule names are Pascal case (3.49.7)."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("-"))


def _invocation(document: Document) -> dict[str, Any]:
    status = document["outcome"]["exit_status"]
    notes: list[dict[str, Any]] = [
        {"level": "warning", "message": _message(note)} for note in document["quality"]["notes"]
    ]
    notes += [
        {
            "level": "warning",
            "message": _message(
                f"{entry['source']}: the suppression of {entry['code']} expired on {entry['expires']}: it counts again."
            ),
        }
        for entry in document["suppressions"]["entries"]
        if entry["status"] == "expired"
    ]
    return {
        # A damaged capture is judged as far as it goes: the run did what it could, and the notifications say the rest.
        "executionSuccessful": True,
        "exitCode": status,
        "exitCodeDescription": _OUTCOMES.get(status, "clean"),
        "toolExecutionNotifications": notes,
        "properties": {"failOn": document["outcome"]["fail_on"]},
    }


def _uri(name: str) -> str:
    """Return a capture's name as a URI reference: every octet that is not plain is percent-encoded."""
    if name == "-":
        return "stdin"
    return quote(name.encode("utf-8", "backslashreplace"), safe="/.~-_+,=@")


def _artifact(capture: CaptureEntry) -> dict[str, Any]:
    kind = "application/x-pcapng" if capture["format"].startswith("pcapng") else "application/vnd.tcpdump.pcap"
    plain = "." not in capture["format"]
    return {
        "location": {"uri": _uri(capture["name"])},
        "length": capture["octets"],
        "roles": ["analysisTarget"],
        **({"mimeType": kind} if plain else {}),
        "properties": {"format": capture["format"], "frames": capture["frames"]},
    }


def _result(finding: FindingEntry, document: Document, index: Mapping[str, int]) -> dict[str, Any]:
    places = [
        {"name": visible(host), "kind": "resource", "fullyQualifiedName": f"{finding['channel']}/{visible(host)}"}
        for host in finding["hosts"]
    ]
    channel = {"name": finding["channel"], "kind": "resource", "fullyQualifiedName": finding["channel"]}
    shown = {entry["capture"]: entry["frames"] for entry in finding["evidence"]}
    locations: list[dict[str, Any]] = [
        {
            "physicalLocation": {"artifactLocation": {"uri": _uri(capture["name"]), "index": row}},
            "logicalLocations": [channel, *places],
            "properties": {"frames": shown.get(row, [])},
        }
        for row, capture in enumerate(document["captures"])
        if row in shown or not shown
    ]
    result: dict[str, Any] = {
        "ruleId": finding["code"],
        "kind": "fail",
        "level": LEVELS[finding["severity"]],
        "message": _message(finding["message"]),
        "locations": locations,
        # Where the same is wrong at the same place, in any capture: with the servers, and without.
        "partialFingerprints": {
            "planewireServers/v1": finding["fingerprint"],
            "planewireFinding/v1": finding["id"],
        },
        "properties": {
            "severity": finding["severity"],
            "grade": finding["grade"],
            "channel": finding["channel"],
            "hosts": [visible(host) for host in finding["hosts"]],
            "connections": finding["connections"],
            "frames": finding["frames"],
            "filter": visible(finding["filter"]),
        },
    }
    if finding["code"] in index:
        result["ruleIndex"] = index[finding["code"]]
    accepted = finding["suppression"]
    if document["suppressions"]["as_of"] is not None:
        # 3.27.23: for all results or for none.
        result["suppressions"] = []
    if accepted is not None:
        result["suppressions"] = [
            {
                "kind": "external",
                "status": "accepted",
                "justification": visible(accepted["reason"]),
                "properties": {
                    "author": visible(accepted["author"]),
                    "expires": accepted["expires"],
                    "source": visible(accepted["source"]),
                },
            }
        ]
    return result
