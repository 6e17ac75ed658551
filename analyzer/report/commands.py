"""Commands that lead on from a report: what to type to see a finding's proof, to understand it, to share it."""

from __future__ import annotations

import shlex
from typing import Final

from analyzer.report.answers import to_change
from analyzer.report.outcome import LIVE
from analyzer.report.schema_document import CaptureEntry, Document, FindingEntry
from analyzer.report.text import visible

_MAX_FRAMES: Final = 12
_MAX_NAMED: Final = 3
"""Captures named in a command."""


def capture_arguments(document: Document) -> str:
    """Return the captures as a shell takes them; words in capitals where they are too many or have no name."""
    names = [shlex.quote(visible(capture["name"])) for capture in document["captures"] if _is_file(capture)]
    if not names or len(names) < len(document["captures"]):
        return "CAPTURE"
    return " ".join(names) if len(names) <= _MAX_NAMED else "CAPTURE..."


def _holding(document: Document, finding: FindingEntry) -> tuple[str, list[int]]:
    """The first capture that shows a finding, as a shell takes it, and the frames there."""
    if not finding["evidence"]:
        return capture_arguments(document), []
    shown = finding["evidence"][0]
    capture = document["captures"][shown["capture"]]
    here = _is_file(capture) and "://" not in capture["name"]
    return (shlex.quote(visible(capture["name"])) if here else "CAPTURE"), shown["frames"]


def _is_file(capture: CaptureEntry) -> bool:
    """Neither standard input nor an interface, which cannot be read again."""
    return capture["name"] != "-" and capture["format"] != LIVE


def tshark_command(document: Document, finding: FindingEntry) -> str:
    """Return the command that lists the packets of a finding."""
    capture, frames = _holding(document, finding)
    some = ", ".join(map(str, frames[:_MAX_FRAMES]))
    shown = f"frame.number in {{{some}}}" if some else visible(finding["filter"])
    return f"tshark -r {capture} -Y {shlex.quote(shown)}"


def evidence_command(document: Document, finding: FindingEntry) -> str:
    """Return the command that writes the smallest capture which shows a finding."""
    capture, _ = _holding(document, finding)
    facts = " --cluster FACTS" if document["cluster"]["given"] else ""
    name = shlex.quote(visible(finding["id"]))
    return f"planewire evidence {capture} {name}{facts} -o {finding['code']}.pcapng"


def next_commands(document: Document, *, html: bool = False) -> list[tuple[str, str]]:
    """Return the three commands most useful after an analysis: (command, what it shows).

    Parameters
    ----------
    document : Document
    html : bool
        The page was written already.
    """
    capture = capture_arguments(document)
    serious = to_change(document)
    found: list[tuple[str, str]] = []
    if serious:
        worst = serious[0]
        found.append((f"planewire explain {worst['code']}", "Why the worst finding matters, and how to end it"))
        found.append((evidence_command(document, worst), "Its packets alone, to keep or to hand over"))
    if not html:
        found.append((f"planewire analyze {capture} --html report.html", "The whole report as one page to share"))
    if not document["cluster"]["given"]:
        found.append(
            (
                f"planewire analyze {capture} --cluster facts/",
                "The same with what the cluster says about itself: fewer open questions",
            )
        )
    found.append((f"planewire analyze {capture} --csv tables/", "Every connection as a table"))
    found.append(("planewire rules", "What was looked for"))
    found.append((f"planewire analyze {capture} --json report.json", "Everything, for other programs"))
    return found[:3]
