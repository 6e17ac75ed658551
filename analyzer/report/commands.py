"""Commands that lead on from a report: what to type to see a finding's proof, to understand it, to share it."""

from __future__ import annotations

import shlex
from typing import Final

from analyzer.report.answers import to_change
from analyzer.report.schema_document import Document, FindingEntry
from analyzer.report.text import visible

_MAX_FRAMES: Final = 12


def capture_argument(document: Document) -> str:
    """Return the capture as a shell takes it; a word in capitals where there is none to name."""
    names = [capture["name"] for capture in document["captures"]]
    return shlex.quote(visible(names[0])) if names and names[0] != "-" else "CAPTURE"


def tshark_command(document: Document, finding: FindingEntry) -> str:
    """Return the command that lists the packets of a finding."""
    frames = ", ".join(map(str, finding["frames"][:_MAX_FRAMES]))
    shown = f"frame.number in {{{frames}}}" if frames else visible(finding["filter"])
    return f"tshark -r {capture_argument(document)} -Y {shlex.quote(shown)}"


def evidence_command(document: Document, finding: FindingEntry) -> str:
    """Return the command that writes the smallest capture which shows a finding."""
    facts = " --cluster FACTS" if document["cluster"]["given"] else ""
    name = shlex.quote(visible(finding["id"]))
    return f"planewire evidence {capture_argument(document)} {name}{facts} -o {finding['code']}.pcapng"


def next_commands(document: Document, *, html: bool = False, cluster: bool = False) -> list[tuple[str, str]]:
    """Return the three commands most useful after an analysis: (command, what it shows).

    Parameters
    ----------
    document : Document
    html : bool
        The page was written already.
    cluster : bool
        Cluster facts were handed over already.
    """
    capture = capture_argument(document)
    serious = to_change(document)
    found: list[tuple[str, str]] = []
    if serious:
        worst = serious[0]
        found.append((f"planewire explain {worst['code']}", "Why the worst finding matters, and how to end it"))
        found.append((evidence_command(document, worst), "Its packets alone, to keep or to hand over"))
    if not html:
        found.append((f"planewire analyze {capture} --html report.html", "The whole report as one page to share"))
    if not cluster and not document["cluster"]["given"]:
        found.append(
            (
                f"planewire analyze {capture} --cluster facts/",
                "The same with what the cluster says about itself: fewer open questions",
            )
        )
    found.append((f"planewire analyze {capture} --csv tables/", "Every connection as a table"))
    found.append(("planewire rules", "What was looked for"))
    return found[:3]
