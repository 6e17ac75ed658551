"""The last moment of a live run as its report has it: verdicts on the way are a little older than the packets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from analyzer.report.live_view import LiveChannel, LiveFinding, Moment
from analyzer.report.schema_document import QUESTIONS, ChannelEntry, FindingEntry, as_document


def at_the_end(moment: Moment, document: Mapping[str, Any]) -> Moment:
    """Return the moment with the channels and findings of the report.

    Parameters
    ----------
    moment : Moment
        The last one; rates, open connections and since when a finding is known are taken from it.
    document : mapping
        A report document of everything that was captured.
    """
    typed, view = as_document(document), moment.view
    known = {channel.id: channel for channel in view.channels}
    before = {finding.identity: finding for finding in view.findings}
    channels = tuple(_channel(row, known.get(row["id"])) for row in typed["channels"])
    findings = tuple(_finding(row, before, view.time_ns) for row in typed["findings"])
    return replace(moment, view=replace(view, channels=channels, findings=findings, concluded_ns=view.time_ns))


def identity_of(row: Mapping[str, Any]) -> str:
    """Return what names a finding from tick to tick; a suppression splits one in two."""
    accepted = row["suppression"]
    return str(row["id"]) if accepted is None else f"{row['id']}/{accepted['source']}"


def _channel(row: ChannelEntry, known: LiveChannel | None) -> LiveChannel:
    answers: dict[str, Any] = {**row}
    grades: dict[str, Any] = {**row["grades"]}
    return LiveChannel(
        id=row["id"],
        title=row["title"],
        core=row["core"],
        verdict=row["verdict"],
        sentence=row["sentence"],
        answers={question: answers[question] for question in QUESTIONS},
        grades={question: grades[question] for question in QUESTIONS},
        connections=row["connections"],
        open=known.open if known is not None else 0,
        packets=row["packets"],
        octets=row["octets"],
        packets_per_s=known.packets_per_s if known is not None else 0.0,
        octets_per_s=known.octets_per_s if known is not None else 0.0,
        clients=tuple(row["clients"]),
        servers=tuple(row["servers"]),
    )


def _finding(row: FindingEntry, before: Mapping[str, LiveFinding], now_ns: int) -> LiveFinding:
    identity = identity_of(row)
    known = before.get(identity)
    accepted = row["suppression"]
    return LiveFinding(
        identity=identity,
        code=row["code"],
        name=row["name"],
        title=row["title"],
        severity=row["severity"],
        grade=row["grade"],
        channel=row["channel"],
        # Connections that left memory are counted by the session alone.
        connections=max(len(row["connections"]), known.connections if known is not None else 0),
        sentence=row["message"],
        first_seen_ns=known.first_seen_ns if known is not None else now_ns,
        hosts=tuple(row["hosts"]),
        frames=tuple(row["frames"]),
        filter=row["filter"],
        suppressed=accepted["reason"] if accepted is not None else "",
    )
