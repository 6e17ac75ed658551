"""The audit in Markdown: a summary for a ticket or a pull request.

What a capture or a cluster wrote is inert here: it is neither markup, nor a link, nor a mention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from analyzer.report.aged_out import MAX_GROUPS, aged_out_notes
from analyzer.report.schema_document import QUESTIONS, SEVERITIES, ChannelEntry, Document, FindingEntry, as_document
from analyzer.report.terminal_style import dominant, duration_text
from analyzer.report.text import visible

_MARKS: Final = {"at-risk": "✗", "undecidable": "?", "sound": "✓", "informational": "·"}
_ORDER: Final = ("at-risk", "undecidable", "sound", "informational")
_MAX_HOSTS: Final = 10
_MAX_FRAMES: Final = 20
# CommonMark 2.4: any ASCII punctuation may be escaped by a backslash, and then is text.
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]#!|~$^])")
_FIRST: Final = re.compile(r"^(\s*)([-+=:]|\d{1,9}[.)](?=\s|$))")
"""What begins a list or makes a heading at the begin of a block (CommonMark 4.3, 5.2)."""


def markdown_safe(text: str) -> str:
    """Return text that Markdown shows as it is: no markup, no HTML, no link, no mention, no line of its own."""
    plain = _SPECIAL.sub(r"\\\1", visible(text))
    plain = _FIRST.sub(lambda match: f"{match[1]}{match[2][:-1]}\\{match[2][-1]}", plain)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "&#64;")):
        plain = plain.replace(character, entity)
    # Bare addresses become links on many sites: GFM 6.9, also without a scheme.
    plain = plain.replace("://", "&#58;//")
    return re.sub(r"(?i)\bwww\.", lambda match: f"{match[0][:3]}&#46;", plain)


def code(text: str) -> str:
    """Return a code span that holds the text, whatever backticks stand in it (CommonMark 6.1)."""
    plain = visible(text)
    longest = max((len(run) for run in re.findall(r"`+", plain)), default=0)
    fence = "`" * (longest + 1)
    inner = f" {plain} " if plain.startswith("`") or plain.endswith("`") or not plain.strip() else plain
    return f"{fence}{inner}{fence}"


def markdown_text(document: Mapping[str, Any]) -> str:
    """Return the summary in CommonMark with GFM tables.

    Parameters
    ----------
    document : mapping
        A report document (`analyzer.report.schema_document.Document`).
    """
    typed = as_document(document)
    blocks = [
        f"## planewire: {_verdict_line(typed)}",
        f"**{markdown_safe(typed['summary']['answer'])}**",
        _captured(typed),
        _channels(typed),
        *_findings(typed),
        *_suppressions(typed),
        *_aged_out(typed),
        *_not_judged(typed),
        f"Written by planewire {markdown_safe(typed['tool']['version'])}. `undecidable` is never shown as safe.",
    ]
    return "\n\n".join(blocks) + "\n"


def finding_order(finding: Mapping[str, Any]) -> tuple[bool, int, str, str, str]:
    """Sort key: worst first, those that are suppressed behind all others."""
    return (
        finding["suppression"] is not None,
        SEVERITIES.index(finding["severity"]),
        finding["code"],
        finding["channel"],
        finding["fingerprint"],
    )


def _verdict_line(document: Document) -> str:
    channels, findings = document["summary"]["channels"], _tally(document)
    verdicts = ", ".join(f"{channels[verdict]} {verdict}" for verdict in _ORDER if channels[verdict])
    return f"{verdicts or 'no channels'}; {findings}"


def _tally(document: Document) -> str:
    counts, suppressed = document["summary"]["findings"], document["summary"]["suppressed"]
    parts = [f"{counts[severity]} {severity}" for severity in SEVERITIES if counts[severity]]
    parts += [f"{suppressed} suppressed"] if suppressed else []
    total = len(document["findings"])
    return f"{total} finding{'' if total == 1 else 's'}" + (f" ({', '.join(parts)})" if parts else "")


def _captured(document: Document) -> str:
    captures = [
        f"{code(c['name'])} ({c['frames']:,} frames, {duration_text(c['duration_s'])})" for c in document["captures"]
    ]
    outcome = document["outcome"]
    return (
        f"{'; '.join(captures) or 'No capture'}. {document['summary']['connections']:,} connections. "
        f"Exit status {outcome['exit_status']} (fail on {outcome['fail_on']})."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    # A pipe ends a cell even inside a code span (GFM 4.10).
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _answer(channel: ChannelEntry, question: str) -> str:
    value, grade, count, total = dominant(channel, question)
    return f"{value} ({grade if count == total else f'{count} of {total}, {grade}'})"


def _channels(document: Document) -> str:
    if not document["channels"]:
        return "No channels."
    ordered = sorted(document["channels"], key=lambda c: (_ORDER.index(c["verdict"]), not c["core"], c["id"]))
    rows = [
        (
            f"{_MARKS[channel['verdict']]} {channel['verdict']}",
            markdown_safe(channel["title"]),
            *(_answer(channel, question) for question in QUESTIONS),
            f"{channel['connections']:,}",
        )
        for channel in ordered
    ]
    header = ("Verdict", "Channel", "Encryption", "Client certificate", "Server check", "Connections")
    return "### Channels\n\n" + _table(header, rows)


def _aged_out(document: Document) -> list[str]:
    notes = aged_out_notes(document)
    if not notes:
        return []
    groups = document["aged_out"]["groups"]
    rows = [
        (
            markdown_safe(group["title"]),
            group["encryption"],
            group["client_certificate"],
            group["server_verification"],
            f"{group['connections']:,}",
            f"{group['packets']:,}",
        )
        for group in groups[:MAX_GROUPS]
    ]
    more = [f"And {len(groups) - MAX_GROUPS:,} more."] if len(groups) > MAX_GROUPS else []
    header = ("Channel", "Encryption", "Client certificate", "Server check", "Connections", "Packets")
    return ["### Connections that aged out\n\n" + " ".join(notes), _table(header, rows), *more]


def _findings(document: Document) -> list[str]:
    if not document["findings"]:
        return ["### Findings\n\nNone."]
    blocks = [f"### Findings: {_tally(document)}"]
    titles = {channel["id"]: channel["title"] for channel in document["channels"]}
    captures = [capture["name"] for capture in document["captures"]]
    blocks += [_finding(f, titles, captures) for f in sorted(document["findings"], key=finding_order)]
    return blocks


def _some(values: Sequence[object], limit: int) -> str:
    more = len(values) - limit
    return ", ".join(code(str(v)) for v in values[:limit]) + (f" and {more} more" if more > 0 else "")


def _finding(finding: FindingEntry, titles: Mapping[str, str], captures: Sequence[str]) -> str:
    accepted = finding["suppression"]
    state = " (suppressed)" if accepted else ""
    channel = titles.get(finding["channel"], finding["channel"])
    lines = [
        f"#### {finding['severity'].upper()}{state} {code(finding['id'])} {markdown_safe(finding['title'])}",
        "",
    ]
    if accepted:
        lines += [
            f"- Suppressed until {accepted['expires']} by {markdown_safe(accepted['author'])} "
            f"({code(accepted['source'])}): {markdown_safe(accepted['reason'])}"
        ]
    lines += [
        f"- Seen: {markdown_safe(finding['message'])}",
        f"- Channel: {markdown_safe(channel)}; grade: {finding['grade']}; connections: {len(finding['connections']):,}",
        f"- Why: {markdown_safe(finding['why'])} ([source]({_link(finding['source'])}))",
        f"- Do: {markdown_safe(finding['remediation'])}",
    ]
    if finding["flags"]:
        lines.append(f"- Set: {_some(finding['flags'], len(finding['flags']))}")
    if finding["hosts"]:
        lines.append(f"- Hosts: {_some(finding['hosts'], _MAX_HOSTS)}")
    for entry in finding["evidence"]:
        shown = " ".join(map(str, entry["frames"][:_MAX_FRAMES]))
        more = len(entry["frames"]) - _MAX_FRAMES
        of = f" of {code(captures[entry['capture']])}" if len(captures) > 1 else ""
        lines.append(f"- Frames{of}: {shown}" + (f" and {more} more" if more > 0 else ""))
    lines.append(f"- Wireshark filter: {code(finding['filter'])}")
    if finding["cis"]:
        lines.append(f"- Benchmark: {markdown_safe(finding['cis'])}")
    if finding["limits"]:
        lines.append(f"- Limits: {markdown_safe(finding['limits'])}")
    return "\n".join(lines)


def _link(url: str) -> str:
    """Return a link target in angle brackets, where neither blank nor bracket ends it; only https, else nothing."""
    clean = re.sub(r"[^A-Za-z0-9:/?#@!$&'*+,;=._~%-]", "", url)
    return f"<{clean}>" if clean.startswith("https://") else "<>"


def _suppressions(document: Document) -> list[str]:
    entries = document["suppressions"]["entries"]
    if not entries:
        return []
    rows = [
        (
            entry["code"],
            entry["status"],
            entry["expires"],
            markdown_safe(entry["author"]),
            markdown_safe(entry["reason"]),
            f"{entry['connections']:,}",
        )
        for entry in entries
    ]
    title = f"### Suppressions, judged on {document['suppressions']['as_of']}"
    return [f"{title}\n\n" + _table(("Code", "Status", "Until", "Author", "Reason", "Connections"), rows)]


def _not_judged(document: Document) -> list[str]:
    notes = list(dict.fromkeys([*document["summary"]["not_judged"], *document["quality"]["notes"]]))
    if not notes:
        return []
    return ["### Not judged\n\n" + "\n".join(f"- {markdown_safe(note)}" for note in notes)]
