"""The tree: every channel is in it, under who is at the other end of the hub, with the nodes that bear its verdict."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from analyzer.report.terminal_hub import answer_lines, hub_tree
from tests.document_example import HOSTILE, example_document

MARKS = {"at-risk": "✗", "undecidable": "?", "sound": "✓", "informational": "·"}
STYLES = dict.fromkeys(MARKS, "")


def printed(renderable: Any, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(renderable, highlight=False)
    return out.getvalue()


def test_channels_stand_under_the_end_they_join_to_the_hub() -> None:
    document = example_document(90)
    lines = printed(hub_tree(document, MARKS, STYLES)).splitlines()
    assert lines[0].strip() == "kube-apiserver"
    branches: dict[str, list[str]] = {}
    for line in lines[1:]:
        text = line.strip("│├└─ ")
        if line.startswith(("├── ", "└── ")):
            branches[text.strip()] = []
        else:
            list(branches.values())[-1].append(text)
    assert list(branches)[-1] == "past the hub"
    assert branches["to nodes"][0].startswith("✗ API server to kubelet")
    assert branches["from nodes"][0].startswith("✓ Node to API server")
    assert branches["to etcd"][0].startswith("✓ API server to etcd")
    assert any("nodes to konnectivity-server" in line for line in branches["past the hub"])
    assert sum(map(len, branches.values())) == len(document["channels"])


def test_nodes_that_differ_are_named() -> None:
    document: Any = example_document(900, 12)
    finding = next(f for f in document["findings"] if f["channel"] == "apiserver-to-kubelet")
    data = document["connections"]["data"]
    finding["connections"] = [
        row for row in finding["connections"] if data["server_name"][row] in ("node-11", "node-2")
    ]
    text = printed(hub_tree(document, MARKS, STYLES))
    (line,) = [line for line in text.splitlines() if "API server to kubelet" in line]
    assert "2 of 12 nodes: node-2, node-11" in line


def test_hostile_titles_are_text_and_nothing_is_nothing() -> None:
    document: Any = example_document(200)
    for channel, text in zip(document["channels"], HOSTILE, strict=False):
        channel["title"] = text
    text = printed(hub_tree(document, MARKS, STYLES))
    assert all(character == "\n" or character.isprintable() for character in text)
    assert "[bold red]markup[/bold red]" in text
    assert hub_tree(example_document(0), MARKS, STYLES) is None


def test_answers_fit_eighty_columns() -> None:
    lines = printed(answer_lines(example_document(900, 300), MARKS, STYLES), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert "✗ 100 of 100: node-1, node-2" in " ".join(" ".join(lines).split())
