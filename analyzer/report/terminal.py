"""The audit on a terminal: what was captured, the answer, the hub and its spokes, findings with what to do, the open.

Nothing is said by colour alone, and nothing from the capture reaches the terminal unescaped: text goes through
`visible` into `rich.text.Text`, which is never read as markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analyzer.report import ledger_view
from analyzer.report.answers import VERDICT_ORDER, by_severity, headline
from analyzer.report.commands import next_commands as default_commands
from analyzer.report.schema_document import (
    QUESTIONS,
    SEVERITIES,
    ChannelEntry,
    Document,
    FindingEntry,
    as_document,
)
from analyzer.report.terminal_hub import answer_lines, hub_tree
from analyzer.report.terminal_style import (
    QUESTION_TITLES,
    SEVERITY_STYLES,
    VERDICT_STYLES,
    answer_text,
    dominant,
    duration_text,
    marks_for,
    number_text,
)
from analyzer.report.text import visible

_WIDE: Final = 112
"""Columns from which an answer and its grade fit on one line of the channel table."""
_MAX_FINDINGS: Final = 20
_MAX_FRAMES: Final = 8
_MAX_NOTES: Final = 12


def render(
    document: Mapping[str, Any], console: Console, *, next_commands: Sequence[tuple[str, str]] | None = None
) -> None:
    """Print the summary a person grasps at once.

    Parameters
    ----------
    document : mapping
        A report document (`analyzer.report.schema_document.Document`).
    console : Console
        Where to; its width, colour and encoding decide the layout. Plain text when it is not a terminal.
    next_commands : sequence of (command, what it shows), optional
        The closing lines; by default three made from the worst finding.
    """
    typed = as_document(document)
    unicode = console.encoding.lower().startswith("utf")
    marks = marks_for(console)
    rule = box.SIMPLE_HEAD if unicode else box.ASCII2
    captured, answer = _headline(typed)
    parts: list[RenderableType] = [
        *captured,
        *ledger_view.brief(typed, rule, wide=console.width >= _WIDE),
        Text(),
        *answer,
        Text(),
    ]
    if typed["channels"]:
        parts += [answer_lines(typed, marks, VERDICT_STYLES), Text()]
        tree = hub_tree(typed, marks, VERDICT_STYLES)
        parts += [tree, Text()] if tree is not None else []
        parts += [_channels(typed, marks, rule, wide=console.width >= _WIDE), Text()]
    parts += _findings(typed)
    parts += _open_questions(typed)
    commands = default_commands(typed) if next_commands is None else next_commands
    parts.append(Text("Next", style="bold"))
    for part in parts:
        console.print(part, highlight=False)
    for command, purpose in commands:
        console.print(_indented(Text(visible(purpose), style="dim")), highlight=False)
        # A command must survive copying: a narrow terminal may fold it, we never do.
        console.print(Text("    " + visible(command)), highlight=False, soft_wrap=True)


def render_ledger(document: Mapping[str, Any], console: Console) -> None:
    """Print what was captured and what became of every frame, without a verdict."""
    rule = box.SIMPLE_HEAD if console.encoding.lower().startswith("utf") else box.ASCII2
    for part in ledger_view.whole(as_document(document), rule, wide=console.width >= _WIDE):
        console.print(part, highlight=False)


# -------------------------------------------------------------------------------------------- headline


def _headline(document: Document) -> tuple[list[RenderableType], list[RenderableType]]:
    """What was captured, and what the answer is."""
    summary, quality = document["summary"], document["quality"]
    captured = [
        f"{number_text(document['ledger']['frames'], 'frame')}",
        number_text(summary["connections"], "connection"),
    ]
    durations = [capture["duration_s"] for capture in document["captures"]]
    # Files of one recording follow each other; vantage points recorded at the same time.
    span = sum(durations) if len(document["vantage_points"]) < 2 else max(durations)
    if span:
        captured.insert(1, duration_text(span))
    names = ", ".join(visible(capture["name"]) for capture in document["captures"][:3])
    more = len(document["captures"]) - 3
    if more > 0:
        names += f" and {more} more"
    shown = f"{quality['handshake_seen']} of {quality['connections']} handshakes seen"
    counted = (
        (quality["mid_connection"], "began earlier"),
        (quality["one_sided"], "one-sided"),
        (quality["with_gaps"], "with gaps"),
        (quality["cut_by_snaplen"], "cut by the snap length"),
    )
    problems = [f"{count} {words}" for count, words in counted if count]
    if quality["dropped"]:
        problems.append(f"{quality['dropped']} frames dropped")
    captured_line = Text.assemble((names or "no capture", "bold"), ": ", ", ".join(captured), ".")
    quality_line = Text(f"Quality: {'; '.join([shown, *problems])}.", style="dim")
    counts = summary["channels"]
    verdicts = Text("Channels: ")
    for verdict in VERDICT_ORDER:
        if len(verdicts) > len("Channels: "):
            verdicts.append(", ")
        verdicts.append(f"{counts[verdict]} {verdict}", VERDICT_STYLES[verdict] if counts[verdict] else "dim")
    short = headline(document)
    answer = [Text(visible(short), style="bold")]
    if short != summary["answer"]:
        answer.append(Text(visible(summary["answer"])))
    return [captured_line, quality_line], [*answer, verdicts]


# -------------------------------------------------------------------------------------------- channels


def _ordered_channels(document: Document) -> list[ChannelEntry]:
    return sorted(document["channels"], key=lambda channel: (VERDICT_ORDER.index(channel["verdict"]), channel["id"]))


def _channels(document: Document, marks: Mapping[str, str], rule: box.Box, *, wide: bool) -> Table:
    table = Table(box=rule, expand=False, pad_edge=False, header_style="bold")
    if wide:
        table.add_column("Verdict", no_wrap=True)
    table.add_column("Channel", overflow="fold")
    for question in QUESTIONS:
        table.add_column(QUESTION_TITLES[question], overflow="fold")
    table.add_column("Conn.", justify="right", no_wrap=True)
    for channel in _ordered_channels(document):
        verdict = Text(f"{marks[channel['verdict']]} {channel['verdict']}", style=VERDICT_STYLES[channel["verdict"]])
        title = Text(visible(channel["title"]))
        table.add_row(
            *([verdict, title] if wide else [Text("\n").join([title, verdict])]),
            *(answer_text(dominant(channel, q), marks, " " if wide else "\n") for q in QUESTIONS),
            str(channel["connections"]),
        )
    return table


# -------------------------------------------------------------------------------------------- findings


def _findings(document: Document) -> list[RenderableType]:
    findings = by_severity(document)
    if not findings:
        return [Text("Findings: none.", style="bold"), Text()]
    titles = {channel["id"]: channel["title"] for channel in document["channels"]}
    counts = document["summary"]["findings"]
    tally = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES if counts[severity])
    suppressed = document["summary"]["suppressed"]
    tally = ", ".join(filter(None, [tally, f"{suppressed} suppressed" if suppressed else ""]))
    parts: list[RenderableType] = [Text.assemble(("Findings", "bold"), f" ({tally})")]
    for finding in findings[:_MAX_FINDINGS]:
        severity, accepted = finding["severity"], finding["suppression"]
        heading = Text(f" {severity.upper()} ", style=SEVERITY_STYLES[severity] if accepted is None else "dim")
        if accepted is not None:
            heading.append(" SUPPRESSED ", style="dim")
        parts.append(Text.assemble(heading, f" {finding['code']} ", (visible(finding["title"]), "bold")))
        if accepted is not None:
            said = f"Suppressed until {accepted['expires']} by {accepted['author']}: {accepted['reason']}"
            parts.append(_indented(Text(visible(said)), 4))
        channel = titles.get(finding["channel"], finding["channel"])
        parts.append(_indented(Text(visible(f"{channel}, {finding['grade']}; {finding['id']}"), style="dim"), 4))
        parts.append(_indented(Text(visible(finding["message"])), 4))
        parts.append(_indented(Text.assemble(("Do: ", "bold"), visible(finding["remediation"])), 4))
        parts += [_indented(Text.assemble(("Set: ", "bold"), visible(flag)), 4) for flag in finding["flags"]]
        parts.append(_indented(Text(_evidence_text(finding, document), style="dim"), 4))
    if len(findings) > _MAX_FINDINGS:
        parts.append(_indented(Text(f"and {len(findings) - _MAX_FINDINGS} more: they are in every other output.")))
    return [*parts, Text()]


def _evidence_text(finding: FindingEntry, document: Document) -> str:
    """The frames of a finding, with their files where there are several."""
    if len(document["captures"]) < 2 or not finding["evidence"]:
        return _frames_text(finding["frames"])
    texts = [
        f"{_frames_text(group['frames'])} of {visible(document['captures'][group['capture']]['name'])}"
        for group in finding["evidence"]
    ]
    return "; ".join(texts)


def _frames_text(frames: Sequence[int]) -> str:
    if not frames:
        return "Frames: none; see the limits of this rule."
    shown = " ".join(map(str, frames[:_MAX_FRAMES]))
    more = len(frames) - _MAX_FRAMES
    return f"Frames: {shown}" + (f" and {more} more" if more > 0 else "")


# ----------------------------------------------------------------------------------------- what is open


def _open_questions(document: Document) -> list[RenderableType]:
    notes = list(dict.fromkeys([*document["summary"]["not_judged"], *document["quality"]["notes"]]))
    if not document["ledger"]["balanced"]:
        notes.insert(0, "The ledger does not balance: please report this as a defect.")
    if not notes:
        return []
    parts: list[RenderableType] = [Text("Not judged", style="bold")]
    parts += [_indented(Text(visible(note))) for note in notes[:_MAX_NOTES]]
    if len(notes) > _MAX_NOTES:
        parts.append(_indented(Text(f"and {len(notes) - _MAX_NOTES} more.")))
    return [*parts, Text()]


def _indented(text: Text, left: int = 2) -> Padding:
    text.overflow = "fold"
    return Padding(text, (0, 0, 0, left), expand=False)
