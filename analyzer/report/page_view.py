"""The document as the page's templates want it: counted, ordered, and with the anchors that links lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from analyzer.report.answers import VERDICT_ORDER, by_severity
from analyzer.report.commands import evidence_command, tshark_command
from analyzer.report.schema_document import GRADES, QUESTIONS, ChannelEntry, Document, FindingEntry
from analyzer.report.text import visible

MAX_FILTERED: Final = 5_000
"""Connections of one finding that the page's filter knows; keeps the page below 2 MB."""


@dataclass(frozen=True, slots=True)
class FindingView:
    """A finding with its anchor and the commands that show it."""

    entry: FindingEntry
    anchor: str
    tshark: str
    evidence: str


def channel_order(document: Document) -> list[int]:
    """Return the rows of the channels: worst first, then those between control plane and nodes, then by name."""

    def key(row: int) -> tuple[int, bool, str]:
        channel = document["channels"][row]
        return VERDICT_ORDER.index(channel["verdict"]), not channel["core"], channel["id"]

    return sorted(range(len(document["channels"])), key=key)


def finding_views(document: Document) -> list[FindingView]:
    """Return the findings by severity; anchors are their code and channel, so that a link outlives the report."""
    views: list[FindingView] = []
    taken: set[str] = set()
    for finding in by_severity(document):
        stem = anchor = f"finding-{finding['code']}-{_plain(finding['channel'])}"
        number = 1
        while anchor in taken:
            number += 1
            anchor = f"{stem}-{number}"
        taken.add(anchor)
        views.append(
            FindingView(finding, anchor, tshark_command(document, finding), evidence_command(document, finding))
        )
    return views


def question_counts(document: Document) -> dict[str, dict[str, dict[str, int]]]:
    """Return answers and grades over all connections, second legs left out and what aged out included."""
    channels: list[Any] = list(document["channels"])
    return {
        question: {
            "values": {value: sum(channel[question][value] for channel in channels) for value in values},
            "grades": {grade: sum(channel["grades"][question][grade] for channel in channels) for grade in GRADES},
        }
        for question, values in QUESTIONS.items()
    }


def matrix(channels: Sequence[ChannelEntry]) -> dict[str, Any]:
    """Return client roles against server roles, each cell the channels between them."""
    clients = list(dict.fromkeys(channel["client_role"] for channel in channels))
    servers = list(dict.fromkeys(channel["server_role"] for channel in channels))
    cells = {
        client: {
            server: [c for c in channels if c["client_role"] == client and c["server_role"] == server]
            for server in servers
        }
        for client in clients
    }
    return {"clients": clients, "servers": servers, "cells": cells}


def filterable(views: Iterable[FindingView]) -> list[Mapping[str, Any]]:
    """Return what the page's script needs to show the connections of one finding."""
    return [
        {
            "anchor": view.anchor,
            "title": visible(f"{view.entry['code']} {view.entry['title']}"),
            "rows": view.entry["connections"][:MAX_FILTERED],
        }
        for view in views
    ]


def _plain(text: str) -> str:
    """Only what may stand in a fragment unescaped."""
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in text)
