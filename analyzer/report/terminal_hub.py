"""The hub and its spokes as a tree on a terminal: what the page draws, in lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from analyzer.report.answers import VERDICT_ORDER, answers, named
from analyzer.report.map_layout import Spoke, count_text, spokes_of
from analyzer.report.schema_document import Document
from analyzer.report.text import natural, visible

_HUB: Final = "kube-apiserver"
_LABELS: Final = {"pods": "pods and services", "outside": "users", "other": "other hosts"}
_PAST: Final = "past the hub"
_TONE_VERDICTS: Final = {"risk": "at-risk", "open": "undecidable", "good": "sound", "plain": "informational"}
_SHOWN: Final = ("cleartext", "kubelets", "certificate")
"""Questions answered in a line; what to change and what is open have sections of their own."""


def hub_tree(document: Document, marks: Mapping[str, str], styles: Mapping[str, str]) -> Tree | None:
    """Return the channels as a tree: those from and to the hub by who is at the other end, then those past it."""
    spokes, _ = spokes_of(document)
    if not spokes:
        return None
    branches: dict[str, dict[int, list[Spoke]]] = {}
    for spoke in spokes:
        branches.setdefault(_branch(spoke), {}).setdefault(spoke.channel, []).append(spoke)
    tree = Tree(Text(_HUB, style="bold"), guide_style="dim")

    def worst(lines: list[Spoke]) -> str:
        return min((spoke.verdict for spoke in lines), key=VERDICT_ORDER.index)

    for name, channels in sorted(branches.items(), key=lambda item: (item[0] == _PAST, item[0])):
        branch = tree.add(Text(name))
        ordered = sorted(channels.items(), key=lambda item: (VERDICT_ORDER.index(worst(item[1])), item[0]))
        for row, lines in ordered:
            verdict = worst(lines)
            label = Text(f"{marks[verdict]} ", style=styles[verdict])
            label.append(visible(document["channels"][row]["title"]), style=styles[verdict])
            label.append(f"  {_about(lines, verdict, past=name == _PAST)}", style="dim")
            branch.add(label)
    return tree


def _label(place: str) -> str:
    kind = place.split(":", 1)[0]
    return "nodes" if kind == "node" else place.removeprefix("plane:") if kind == "plane" else _LABELS.get(kind, kind)


def _branch(spoke: Spoke) -> str:
    if spoke.client == _HUB and spoke.server != _HUB:
        return f"to {_label(spoke.server)}"
    if spoke.server == _HUB:
        return f"from {_label(spoke.client)}"
    return _PAST


def _about(lines: list[Spoke], verdict: str, *, past: bool) -> str:
    """Connections of one channel in one branch, who they join where the branch does not say, and which nodes."""
    parts = [count_text(sum(spoke.connections for spoke in lines), "connection", "connections")]
    if past:
        parts.insert(0, ", ".join(dict.fromkeys(f"{_label(s.client)} to {_label(s.server)}" for s in lines)))
    nodes: dict[str, set[str]] = {}
    for spoke in lines:
        for end in (spoke.client, spoke.server):
            if end.startswith("node:"):
                nodes.setdefault(end.removeprefix("node:"), set()).add(spoke.verdict)
    chosen = sorted((node for node, verdicts in nodes.items() if verdict in verdicts), key=natural)
    if chosen:
        of = f"{len(chosen):,} of {len(nodes):,} nodes: " if len(chosen) < len(nodes) else ""
        parts.append(visible(of + named(chosen, 3)))
    return ", ".join(parts)


def answer_lines(document: Document, marks: Mapping[str, str], styles: Mapping[str, str]) -> Table:
    """Return the answers that fit into a line each."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for answer in answers(document):
        if answer.key in _SHOWN:
            verdict = _TONE_VERDICTS[answer.tone]
            said = Text(
                f"{marks[verdict]} {visible(answer.answer)}",
                style=styles[verdict] if verdict != "informational" else "",
            )
            table.add_row(Text(answer.question, style="dim"), said)
    return table
