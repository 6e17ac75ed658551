"""``python -m tests.corpus.agreement``: compare with the other tools over all captures and write docs/agreement.md."""

from __future__ import annotations

import json
import sys
from typing import Final

from analyzer.errors import PlanewireError
from tests.conftest import ROOT
from tests.corpus.conversations import REASONS, Comparison, compare, tshark_version
from tests.corpus.others import CLASSES, PUBLIC, Agreement, agreements

DOCUMENT: Final = ROOT / "docs" / "agreement.md"
LEAST: Final = 0.995
"""Share of conversations that must equal tshark's."""


def compare_all(stride: int = 1) -> Comparison:
    """Every public capture, or every `stride`-th, that both read."""
    version, total = tshark_version(), Comparison()
    for entry in json.loads((PUBLIC / "manifest.json").read_text())[::stride]:
        try:
            one = compare(PUBLIC / entry["file"], version)
        except PlanewireError:
            continue  # refused in one line; tshark may read formats that are none of ours
        if one is not None:
            total.add(one)
    return total


def _tshark(total: Comparison, version: str) -> list[str]:
    lines = [
        "## tshark",
        "",
        f"{version.split(' (Git')[0]}, {total.captures:,} captures that it reads to their end.",
        f"Of {total.conversations:,} TCP and UDP conversations (addresses and ports, packets and octets each way,",
        "inside tunnels too; a packet recorded on several interfaces counted as often, as tshark does)",
        f"{total.equal:,} are equal:",
        f"**{100 * total.equal / total.conversations:.2f} %**. The others:",
        "",
        "| reason | conversations | what it is |",
        "|---|---|---|",
    ]
    explained = {name: text for name, text, _ in REASONS}
    for name, count in total.reasons.most_common():
        text = " ".join(explained.get(part, "no reason known") for part in name.split(" and "))
        lines.append(f"| {name or 'unexplained'} | {count:,} | {text} |")
    return lines


def _other(agreement: Agreement) -> list[str]:
    lines = [
        "",
        f"## {agreement.tool}",
        "",
        f"{agreement.outputs} expected outputs; of {agreement.stated:,} {agreement.unit} {agreement.equal:,} are "
        f"equal: **{100 * agreement.equal / max(agreement.stated, 1):.1f} %**."
        + (" The others:" if agreement.classes else ""),
    ]
    if agreement.classes:
        explained = {name: text for name, text, _ in CLASSES[agreement.tool]}
        lines += ["", "| class | number | what it is |", "|---|---|---|"]
        lines += [
            f"| {name} | {count} | {agreement.tool} {explained[name]} |"
            for name, count in sorted(agreement.classes.items(), key=lambda item: (-item[1], item[0]))
        ]
    if agreement.unexplained:
        lines.append(f"\n{len(agreement.unexplained)} without a class.")
    return lines


def other_sections(found: list[Agreement]) -> str:
    """The document's part that needs no full run of tshark."""
    return "\n".join(line for agreement in found for line in _other(agreement)) + "\n"


def main() -> int:
    """Write the document; 1 where a difference has no reason or too few conversations are equal."""
    total, found = compare_all(), agreements()
    head = [
        "# Agreement with other tools",
        "",
        "Written by `make agreement` from the public captures. Each reason is a predicate on header fields of the",
        "frames (`tests/corpus/conversations.py`, `tests/corpus/others.py`); the first that holds is the one counted.",
        "",
    ]
    DOCUMENT.write_text("\n".join([*head, *_tshark(total, tshark_version())]) + "\n" + other_sections(found))
    missing = total.unexplained + [line for agreement in found for line in agreement.unexplained]
    print(f"{total.equal:,} of {total.conversations:,} equal; {len(missing)} without a reason; see {DOCUMENT}")
    for line in missing[:20]:
        print(line)
    return int(bool(missing) or total.equal < LEAST * total.conversations)


if __name__ == "__main__":
    sys.exit(main())
