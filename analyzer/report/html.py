"""The audit as one page: a single file that asks no host for anything and reads in full without script.

Every expression of the templates passes through `_finalize`, the one place where captured text is made visible, before
Jinja escapes it. The content security policy allows exactly the inline style and script whose hashes stand in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from analyzer.report import connections_view
from analyzer.report.diagram import hub_and_spoke
from analyzer.report.schema_document import (
    GRADES,
    QUESTIONS,
    SEVERITIES,
    ChannelEntry,
    Document,
    FindingEntry,
    as_document,
)
from analyzer.report.tables import write_atomically
from analyzer.report.terminal import dominant, duration_text
from analyzer.report.text import visible

VERDICT_ORDER: Final = ("at-risk", "undecidable", "sound", "informational")

_LOOKS: Final = {
    "at-risk": ("✗", "risk"),
    "undecidable": ("?", "open"),
    "sound": ("✓", "good"),
    "informational": ("·", "plain"),
    "encrypted": ("✓", "good"),
    "presented": ("✓", "good"),
    "verified": ("✓", "good"),
    "refused": ("✓", "good"),
    "cleartext": ("✗", "risk"),
    "unverified": ("✗", "risk"),
    "absent": ("-", "plain"),
}
"""Mark and tone (a class of the style sheet) of each verdict and answer."""
_QUESTION_TITLES: Final = {
    "encryption": "Is it encrypted?",
    "client_certificate": "Does the client show a certificate?",
    "server_verification": "Does the client check the server?",
}
_COLUMN_TITLES: Final = {
    "encryption": "Encryption",
    "client_certificate": "Client certificate",
    "server_verification": "Server check",
}
GRADE_MEANINGS: Final = {
    "observed": "Octets on the wire show it: a clear handshake, a decrypted one, or readable payload.",
    "inferred": "Record lengths or behaviour imply it; the finding names the inference and its limits.",
    "declared": "The configuration that was handed over says so.",
    "default": "Nothing was seen or declared: undecidable, with what Kubernetes does by default beside it.",
    "none": "Not even a default applies.",
}
_STEPS: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def render_html(document: Mapping[str, Any]) -> str:
    """Render the document as one self-contained page.

    Parameters
    ----------
    document : mapping
        A report document (`analyzer.report.schema_document.Document`).

    Returns
    -------
    str
        HTML 5; encode it as UTF-8. The same document gives the same text. Below 2 MB for 10,000 connections: rows
        beyond `connections_view.MAX_PACKED` are in ``connections.csv`` only, and the page says so.
    """
    typed = as_document(document)
    environment = _environment()
    style = _source("style.css")
    script = _source("report.js")
    order = _channel_order(typed)
    channels = [typed["channels"][row] for row in order]
    ids = [channel["id"] for channel in channels]
    titles = {channel["id"]: channel["title"] for channel in channels}
    connection_order = connections_view.row_order(typed["connections"], ids)
    # What is packed holds what is shown: the script replaces the rows by the same rows.
    packed = connections_view.packed(
        typed["connections"],
        connection_order[: connections_view.MAX_PACKED],
        {k: visible(v) for k, v in titles.items()},
    )
    return environment.get_template("report.html").render(
        document=typed,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        channels=channels,
        numbers={channel: position + 1 for position, channel in enumerate(ids)},
        titles=titles,
        verdicts={channel["id"]: channel["verdict"] for channel in channels},
        findings=_by_severity(typed),
        questions=_question_counts(typed),
        legs=sum(leg >= 0 for leg in typed["connections"]["data"]["leg_of"]),
        diagram=Markup(hub_and_spoke(typed, order)),
        matrix=_matrix(channels),
        groups=connections_view.grouped(typed["connections"], ids),
        rows=connections_view.rows(typed["connections"], connection_order[: connections_view.MAX_ROWS]),
        row_count=len(connection_order),
        packed_count=packed["count"],
        packed=htmlsafe_json_dumps(packed, dumps=partial(json.dumps, separators=(",", ":"))),
        names={entry["address"]: entry["names"][0] for entry in typed["endpoints"] if entry["names"]},
    )


def write_html(document: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the page, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    return write_atomically(Path(path), render_html(document))


# --------------------------------------------------------------------------------------------- templates


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("analyzer.report", "templates"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters |= {
        "octets": octets_text,
        "duration": duration_text,
        "moment": moment_text,
        "n": lambda number: f"{number:,}",
        "mark": lambda value: _LOOKS.get(value, ("?", "open"))[0],
        "tone": lambda value: _LOOKS.get(value, ("?", "open"))[1],
        "words": lambda value: value.replace("-", " "),
        "https": lambda url: url.startswith("https://"),
    }
    environment.globals |= {
        "QUESTIONS": QUESTIONS,
        "QUESTION_TITLES": _QUESTION_TITLES,
        "COLUMN_TITLES": _COLUMN_TITLES,
        "GRADES": GRADES,
        "GRADE_MEANINGS": GRADE_MEANINGS,
        "SEVERITIES": SEVERITIES,
        "VERDICTS": VERDICT_ORDER,
        "dominant": dominant,
        "endpoint": connections_view.endpoint,
        "plural": lambda number, one, many: f"{number:,} {one if number == 1 else many}",
    }
    return environment


def _finalize(value: object) -> object:
    """Make what an expression gives visible text; markup was made by us and stays."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(value)


@cache
def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; img-src data:; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'"
    )


def octets_text(octets: int) -> str:
    """Return a size as a person says it, in decimal units: ``640 B``, ``12.3 kB``, ``1.2 GB``."""
    for size, unit in _STEPS:
        if octets >= size:
            return f"{octets / size:.1f} {unit}"
    return f"{octets} B"


def moment_text(time: str | None) -> str:
    """Return an RFC 3339 time to the second."""
    return f"{time[:10]} {time[11:19]} UTC" if time else "unknown time"


# ------------------------------------------------------------------------------------------ view of the data


def _channel_order(document: Document) -> list[int]:
    """Rows of the channels: worst first, then those between control plane and nodes, then by name."""

    def key(row: int) -> tuple[int, bool, str]:
        channel = document["channels"][row]
        return VERDICT_ORDER.index(channel["verdict"]), not channel["core"], channel["id"]

    return sorted(range(len(document["channels"])), key=key)


def _by_severity(document: Document) -> list[FindingEntry]:
    """Findings, worst first; those that are suppressed behind all others."""
    return sorted(
        document["findings"],
        key=lambda f: (
            f["suppression"] is not None,
            SEVERITIES.index(f["severity"]),
            f["code"],
            f["channel"],
            f["fingerprint"],
        ),
    )


def _question_counts(document: Document) -> dict[str, dict[str, dict[str, int]]]:
    """Answers and grades over all connections, second legs left out."""
    data = document["connections"]["data"]
    counted = [row for row, leg in enumerate(data["leg_of"]) if leg < 0]
    result: dict[str, dict[str, dict[str, int]]] = {}
    for question, values in QUESTIONS.items():
        answers = [data[question][row] for row in counted]
        grades = [data[f"{question}_grade"][row] for row in counted]
        result[question] = {
            "values": {value: answers.count(value) for value in values},
            "grades": {grade: grades.count(grade) for grade in GRADES},
        }
    return result


def _matrix(channels: Sequence[ChannelEntry]) -> dict[str, Any]:
    """Client roles against server roles, each cell the channels between them."""
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
