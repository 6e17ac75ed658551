"""One finding or channel of the live screen in full, and what the keys do."""

from __future__ import annotations

from typing import Final

from rich.text import Text

from analyzer.cluster.catalogue import channels as catalogue
from analyzer.report.audit_result import time_text
from analyzer.report.live_view import LiveChannel, LiveFinding, LiveView
from analyzer.report.schema_document import QUESTIONS
from analyzer.report.terminal_style import QUESTION_TITLES, SEVERITY_STYLES, VERDICT_STYLES, number_text
from analyzer.report.text import visible
from analyzer.rules import RULES

_MAX_LISTED: Final = 12

_KEYS: Final = (
    ("j k, arrows", "select; Page Up, Page Down, g, G go further"),
    ("Enter", "open the selected one: why it matters, what changes it, evidence"),
    ("Esc", "close it; without one open, drop the filter"),
    ("Tab", "move between channels and findings"),
    ("s, S", "next, previous order of the list"),
    ("/", "show only what contains a text"),
    ("p", "hold the lists still; the capture goes on"),
    ("q, Ctrl-C", "end with the report; a second Ctrl-C ends without"),
    ("Ctrl-Z", "suspend; what comes meanwhile is dropped once the kernel's buffer is full"),
)


_TERMS: Final = (
    (
        "Header",
        (
            (
                "dropped",
                "packets that the kernel could not hand over; what they held is in no verdict; ? is unknown",
            ),
            ("lag", "from a packet's time to when it was counted"),
            ("held", "connections in memory"),
            ("aged out", "let go after their end or silence; still counted, with their verdict"),
        ),
    ),
    (
        "Grades",
        (
            ("observed (obs)", "octets show it"),
            ("inferred (inf)", "sizes or behaviour imply it"),
            ("declared (dec)", "configuration says so"),
            ("default (def)", "what Kubernetes does when nobody configures anything"),
            ("~", "before an answer: of most connections, not of all"),
        ),
    ),
)


def help_text() -> Text:
    """Return what the keys do and what the header says."""
    text = Text.assemble(("Keys\n", "bold"))
    for key, what in _KEYS:
        text.append(f"  {key:12} ", "bold").append(f"{what}\n")
    for heading, terms in _TERMS:
        text.append(f"\n{heading}\n", "bold")
        for term, meaning in terms:
            text.append(f"  {term}: ", "bold").append(f"{meaning}\n")
    return text


def finding_detail(finding: LiveFinding, view: LiveView) -> Text:
    """Return a finding whole: what was seen, why it matters, what changes it, where to look."""
    rule = next((rule for rule in RULES if rule.code == finding.code), None)
    title = next((channel.title for channel in view.channels if channel.id == finding.channel), finding.channel)
    text = Text.assemble(
        (f" {finding.severity.upper()} ", SEVERITY_STYLES[finding.severity]),
        f" {finding.code} ",
        (f"{visible(finding.title)}\n", "bold"),
    )
    seen = (time_text(finding.first_seen_ns) or "")[:19]
    text.append(f"{visible(title)}, {finding.grade}; {visible(finding.identity)}; first seen {seen}Z\n", "dim")
    if finding.suppressed:
        text.append(f"Suppressed: {visible(finding.suppressed)}\n", "yellow")
    _part(text, "Seen", visible(finding.sentence))
    if rule is not None:
        _part(text, "Why it matters", rule.why)
        _part(text, "What changes it", rule.remediation)
        for flag in rule.flags:
            text.append(f"  {flag}\n", "bold")
    _part(text, "Evidence", _listed(list(map(str, finding.frames)), "frames", " ") or "no single frame shows it")
    if finding.hosts:
        text.append(f"On {_listed([visible(host) for host in finding.hosts], 'hosts', ', ')}\n")
    _part(text, "Display filter", visible(finding.filter))
    if rule is not None:
        if rule.limits:
            _part(text, "Limits", rule.limits)
        _part(text, "Source", rule.source)
    return text


def channel_detail(channel: LiveChannel) -> Text:
    """Return a channel whole: its verdict, every answer with its count, who talks on it."""
    text = Text.assemble((f" {channel.verdict.upper()} ", VERDICT_STYLES[channel.verdict]), " ")
    text.append(f"{visible(channel.title)}\n", "bold").append(f"{channel.id}\n", "dim")
    _part(text, "Verdict", visible(channel.sentence))
    for question in QUESTIONS:
        answers = [f"{n:,} {value}" for value, n in channel.answers[question].items() if n]
        grades = [f"{n:,} {grade}" for grade, n in channel.grades[question].items() if n]
        _part(
            text, QUESTION_TITLES[question], f"{', '.join(answers) or 'none'} (grades: {', '.join(grades) or 'none'})"
        )
    counted = f"{number_text(channel.connections, 'connection')}, {channel.open:,} open; "
    _part(text, "Traffic", f"{counted}{number_text(channel.packets, 'packet')}, {channel.octets:,} octets")
    for name, ends in (("From", channel.clients), ("To", channel.servers)):
        if ends:
            _part(text, name, _listed([visible(end) for end in ends], "addresses", ", "))
    row = next((row for row in catalogue() if row.id == channel.id), None)
    if row is not None and row.default:
        _part(text, "By default", row.default)
        _part(text, "Source", row.source)
    return text


def _part(text: Text, name: str, said: str) -> None:
    text.append(f"\n{name}: ", "bold").append(f"{said}\n")


def _listed(items: list[str], noun: str, separator: str) -> str:
    shown = separator.join(items[:_MAX_LISTED])
    return f"{shown} and {len(items) - _MAX_LISTED} more {noun}" if len(items) > _MAX_LISTED else shown
