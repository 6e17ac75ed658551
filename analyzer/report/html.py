"""The audit as one page: a single file that asks no host for anything and reads in full without script.

Every expression of the templates passes through `_finalize`, the one place where captured text is made visible, before
Jinja escapes it. The content security policy allows exactly the inline style and script whose hashes stand in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from analyzer.report import answers, charts, connections_view, page_view
from analyzer.report.aged_out import MAX_GROUPS, aged_out_notes
from analyzer.report.channel_view import channel_facts
from analyzer.report.diagram import hub_and_spoke
from analyzer.report.nodes_view import MAX_NODES, nodes
from analyzer.report.schema_document import GRADES, QUESTIONS, SEVERITIES, as_document
from analyzer.report.tables import write_atomically
from analyzer.report.terminal_style import dominant, duration_text
from analyzer.report.text import visible

_STYLES: Final = ("tokens.css", "base.css", "page.css", "map.css", "print.css")
_SCRIPTS: Final = ("start.js", "tables.js", "map.js", "connections.js")

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
    "client_certificate": "Client shows a certificate?",
    "server_verification": "Client checks the server?",
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
    style = "".join(_source(f"style/{name}") for name in _STYLES)
    parts = "\n".join(_source(f"script/{name}") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}}})();\n'
    order = page_view.channel_order(typed)
    channels = [typed["channels"][row] for row in order]
    ids = [channel["id"] for channel in channels]
    titles = {channel["id"]: channel["title"] for channel in channels}
    connection_order = connections_view.row_order(typed["connections"], ids)
    findings = page_view.finding_views(typed)
    # What is packed holds what is shown: the script replaces the rows by the same rows.
    packed = connections_view.packed(
        typed["connections"],
        connection_order[: connections_view.MAX_PACKED],
        {k: visible(v) for k, v in titles.items()},
    ) | {"findings": page_view.filterable(findings)}
    every_node = nodes(typed)
    node_anchors = {node.name: f"node-{row + 1}" for row, node in enumerate(every_node[:MAX_NODES])}
    timeline = charts.timeline_of(typed)
    now = answers.capture_end(typed)
    return environment.get_template("report.html").render(
        document=typed,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        headline=answers.headline(typed),
        first=[f for f in findings if f.entry in answers.to_change(typed)][:3],
        answers=answers.answers(typed),
        open_notes=answers.open_notes(typed),
        channels=channels,
        facts=channel_facts(typed["connections"]),
        numbers={channel: position + 1 for position, channel in enumerate(ids)},
        titles=titles,
        verdicts={channel["id"]: channel["verdict"] for channel in channels},
        findings=findings,
        nodes=every_node[:MAX_NODES],
        node_count=len(every_node),
        node_anchors=node_anchors,
        questions=page_view.question_counts(typed),
        aged_out=aged_out_notes(typed),
        aged_out_groups=typed["aged_out"]["groups"][:MAX_GROUPS] if "aged_out" in typed else (),
        legs=sum(leg >= 0 for leg in typed["connections"]["data"]["leg_of"]),
        diagram=Markup(hub_and_spoke(typed, order, node_anchors)),
        matrix=page_view.matrix(channels),
        timeline=timeline,
        lanes={k: (lane, Markup(lane.svg)) for k, lane in charts.lanes(typed, timeline).items()} if timeline else {},
        event_lanes=[(lane, Markup(lane.svg)) for lane in charts.event_lanes(timeline)] if timeline else [],
        ticks=charts.axis(timeline) if timeline else [],
        days_left=partial(answers.days_left, now=now),
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
        "query": lambda text: quote(visible(text), safe=""),
        "clock": lambda time: f"{time[11:23]} UTC" if time else "unknown",
    }
    environment.globals |= {
        "QUESTIONS": QUESTIONS,
        "QUESTION_TITLES": _QUESTION_TITLES,
        "COLUMN_TITLES": _COLUMN_TITLES,
        "GRADES": GRADES,
        "GRADE_MEANINGS": GRADE_MEANINGS,
        "SEVERITIES": SEVERITIES,
        "VERDICTS": answers.VERDICT_ORDER,
        "EVENT_TITLES": charts.EVENT_TITLES,
        "EVENT_TONES": charts.EVENT_TONES,
        "VERIFICATION_OF": answers.verification_of,
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
