"""A live session as lines: one a finding and a channel change, for people and logs, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from analyzer import __version__
from analyzer.report.audit_result import time_text
from analyzer.report.live_changes import Change, ChannelChange, FindingChange, answers_of
from analyzer.report.live_schema import (
    LIVE_SCHEMA_VERSION,
    ChannelLine,
    DropsLine,
    EndedBy,
    FindingLine,
    LiveLine,
    NoteLine,
    StartLine,
    SummaryLine,
)
from analyzer.report.live_view import LiveHealth, Moment
from analyzer.report.schema_document import SEVERITIES
from analyzer.report.terminal_style import QUESTION_TITLES, number_text
from analyzer.report.text import visible

DROPS_S: Final = 10.0
"""Seconds between two lines about drops."""


def start_line(time_ns: int, health: LiveHealth) -> StartLine:
    """Return the first line."""
    return {
        "type": "start",
        "time": _time(time_ns),
        "schema_version": LIVE_SCHEMA_VERSION,
        "tool": {"name": "planewire", "version": __version__},
        "input": health.name,
        "how": health.how,
    }


def change_line(time_ns: int, change: Change) -> ChannelLine | FindingLine:
    """Return the line of one change."""
    return _finding_line(time_ns, change) if isinstance(change, FindingChange) else _channel_line(time_ns, change)


def note_line(time_ns: int, text: str) -> NoteLine:
    """Return a line that tells a problem."""
    return {"type": "note", "time": _time(time_ns), "text": text}


class Drops:
    """Tells drops: at once when they begin, then at most every `DROPS_S` seconds."""

    def __init__(self) -> None:
        self._told = 0
        self._told_at = -DROPS_S

    def line(self, moment: Moment) -> DropsLine | None:
        """Return the line that is due, if one is."""
        dropped, now = moment.health.dropped, moment.health.running_s
        if dropped is None or dropped <= self._told or now - self._told_at < DROPS_S:
            return None
        more, self._told, self._told_at = dropped - self._told, dropped, now
        return {
            "type": "drops",
            "time": _time(moment.view.time_ns),
            "dropped": dropped,
            "more": more,
            "packets": moment.view.frames,
        }


def summary_line(moment: Moment, ended_by: EndedBy, exit_status: int) -> SummaryLine:
    """Return the last line."""
    view = moment.view
    counted = [finding.severity for finding in view.findings if not finding.suppressed]
    line: Any = {
        "type": "summary",
        "time": _time(view.time_ns),
        "ended_by": ended_by,
        "duration_s": round(moment.health.running_s, 3),
        "packets": view.frames,
        "octets": view.octets,
        "dropped": moment.health.dropped,
        "connections": sum(channel.connections for channel in view.channels),
        "aged_out": view.aged_out,
        "channels": [
            {"channel": c.id, "verdict": c.verdict, "connections": c.connections, "octets": c.octets}
            for c in view.channels
        ],
        "findings": {severity: counted.count(severity) for severity in SEVERITIES},
        "exit_status": exit_status,
    }
    summary: SummaryLine = line
    return summary


def as_json(line: LiveLine) -> str:
    """Return a line as JSON, in ASCII: nothing that a terminal acts upon is left in it."""
    return json.dumps(line, separators=(",", ":"), allow_nan=False)


def as_text(line: LiveLine) -> str:
    """Return a line as a person reads it, on one line whatever is in it."""
    return visible(f"{line['time'][:19]}Z {_said(line)}")


def _said(line: LiveLine) -> str:
    match line["type"]:
        case "start":
            return f"start: {line['input']}, by {line['how']}"
        case "channel":
            was = f" (was {line['previous']})" if line["previous"] not in (None, line["verdict"]) else ""
            answers = ", ".join(
                f"{QUESTION_TITLES[name].lower()} {answer['value']} {answer['grade']}"
                for name, answer in (
                    ("encryption", line["encryption"]),
                    ("client_certificate", line["client_certificate"]),
                    ("server_verification", line["server_verification"]),
                )
            )
            return (
                f"channel {line['channel']}: {line['verdict']}{was}: {answers}; "
                f"{number_text(line['connections'], 'connection')}"
            )
        case "finding":
            how = "" if line["change"] == "new" else f" {line['change']}"
            accepted = f" (suppressed: {line['suppressed']})" if line["suppressed"] else ""
            return f"finding{how} {line['severity']} {line['id']} {line['grade']}: {line['message']}{accepted}"
        case "drops":
            return f"drops: {line['more']:,} more, {line['dropped']:,} since the start"
        case "note":
            return f"note: {line['text']}"
        case "summary":
            found = ", ".join(f"{count} {severity}" for severity, count in _counts(line) if count) or "none"
            dropped = "drops not recorded" if line["dropped"] is None else f"{line['dropped']:,} dropped"
            return (
                f"end ({line['ended_by']}): {number_text(line['packets'], 'packet')}, {dropped}, "
                f"{number_text(line['connections'], 'connection')}, {number_text(len(line['channels']), 'channel')}; "
                f"findings: {found}"
            )


def _counts(line: SummaryLine) -> Sequence[tuple[str, int]]:
    counts: dict[str, Any] = dict(line["findings"])
    return [(severity, counts[severity]) for severity in SEVERITIES]


def _channel_line(time_ns: int, change: ChannelChange) -> ChannelLine:
    channel = change.channel
    answers = {
        name: {"value": value, "grade": grade, "connections": count, "of": total}
        for name, (value, grade, count, total) in answers_of(channel).items()
    }
    line: Any = {
        "type": "channel",
        "time": _time(time_ns),
        "channel": channel.id,
        "title": channel.title,
        "core": channel.core,
        "verdict": channel.verdict,
        "previous": change.previous,
        "sentence": channel.sentence,
        **answers,
        "connections": channel.connections,
        "open": channel.open,
        "packets": channel.packets,
        "octets": channel.octets,
    }
    typed: ChannelLine = line
    return typed


def _finding_line(time_ns: int, change: FindingChange) -> FindingLine:
    finding = change.finding
    line: Any = {
        "type": "finding",
        "time": _time(time_ns),
        "change": change.change,
        "id": finding.identity,
        "code": finding.code,
        "name": finding.name,
        "title": finding.title,
        "severity": finding.severity,
        "grade": finding.grade,
        "channel": finding.channel,
        "connections": finding.connections,
        "message": finding.sentence,
        "hosts": list(finding.hosts),
        "frames": list(finding.frames),
        "filter": finding.filter,
        "first_seen": time_text(finding.first_seen_ns),
        "suppressed": finding.suppressed,
    }
    typed: FindingLine = line
    return typed


def _time(ns: int) -> str:
    return time_text(ns) or "1970-01-01T00:00:00.000000000Z"
