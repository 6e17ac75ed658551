"""Rows of a report's ``channels`` and ``findings`` as a live view has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from analyzer.report.live_view import LiveChannel, LiveFinding
from analyzer.report.schema_document import QUESTIONS

_MAX_ENDPOINTS: Final = 8


def identity_of(row: Mapping[str, Any]) -> str:
    """Return what names a finding from tick to tick; a suppression splits one in two."""
    accepted = row["suppression"]
    return str(row["id"]) if accepted is None else f"{row['id']}/{accepted['source']}"


def live_channel(
    row: Mapping[str, Any], *, open_now: int, traffic: tuple[int, int], rates: tuple[float, float]
) -> LiveChannel:
    """Return a channel as it is shown.

    Parameters
    ----------
    row : mapping
        A `ChannelEntry`.
    open_now : int
        Open connections.
    traffic : tuple of int
        Packets and octets since the start: with those that came after the row was made.
    rates : tuple of float
        Packets and octets a second.
    """
    return LiveChannel(
        id=row["id"],
        title=row["title"],
        core=row["core"],
        verdict=row["verdict"],
        sentence=row["sentence"],
        answers={question: row[question] for question in QUESTIONS},
        grades={question: row["grades"][question] for question in QUESTIONS},
        connections=row["connections"],
        open=open_now,
        packets=traffic[0],
        octets=traffic[1],
        packets_per_s=rates[0],
        octets_per_s=rates[1],
        clients=tuple(row["clients"][:_MAX_ENDPOINTS]),
        servers=tuple(row["servers"][:_MAX_ENDPOINTS]),
    )


def live_finding(row: Mapping[str, Any], connections: int, first_seen_ns: int) -> LiveFinding:
    """Return a finding, a `FindingEntry`, as it is shown: how many connections show it, and since when it is known."""
    accepted = row["suppression"]
    return LiveFinding(
        identity=identity_of(row),
        code=row["code"],
        name=row["name"],
        title=row["title"],
        severity=row["severity"],
        grade=row["grade"],
        channel=row["channel"],
        connections=connections,
        sentence=row["message"],
        first_seen_ns=first_seen_ns,
        hosts=tuple(row["hosts"]),
        frames=tuple(row["frames"]),
        filter=row["filter"],
        suppressed=accepted["reason"] if accepted is not None else "",
    )
