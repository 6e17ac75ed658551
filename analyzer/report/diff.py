"""What is different between two audits: channels, findings and servers that appeared, went, or changed.

Servers are the same where their names are: addresses change from one capture to the next, node and workload names do
not. What only a longer or shorter capture changes (counts, frames, octets) is no difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypedDict, TypeVar

from analyzer.report.markdown import code, markdown_safe
from analyzer.report.outcome import CLEAN, FINDINGS, INCOMPLETE, incomplete, reaches
from analyzer.report.schema_document import QUESTIONS, SEVERITIES, Document, FindingEntry, as_document
from analyzer.report.text import visible

State = Literal["appeared", "changed", "went"]

DIFF_VERSION: Final = "1"

_STATES: Final[tuple[State, ...]] = ("appeared", "changed", "went")
_WORST_FIRST: Final = {
    "encryption": ("cleartext", "undecidable", "encrypted"),
    "client_certificate": ("absent", "undecidable", "presented"),
    "server_verification": ("unverified", "undecidable", "refused", "verified"),
}
# Names that Kubernetes makes: k8s.io/apimachinery/pkg/util/rand has no vowels and no 0, 1, 3. A Deployment's pod ends
# in the hash of its ReplicaSet and five of these, a DaemonSet's in five.
_GENERATED: Final = re.compile(r"(-[bcdfghjklmnpqrstvwxz2456789]{8,10})?-[bcdfghjklmnpqrstvwxz2456789]{5}$")


class ChannelDifference(TypedDict):
    """One channel; ``None`` where a capture does not show it."""

    state: State
    id: str
    title: str
    old: str | None
    new: str | None
    sentence: str


class FindingDifference(TypedDict):
    """One finding."""

    state: State
    id: str
    title: str
    severity: str
    suppressed: bool
    worse: bool
    changes: list[str]


class ServerDifference(TypedDict):
    """One server on one channel between control plane and nodes, and one question about it."""

    state: State
    channel: str
    server: str
    question: str
    old: str | None
    new: str | None


class Difference(TypedDict):
    """All differences; JSON of it is what ``--json`` writes."""

    diff_version: str
    old: list[str]
    new: list[str]
    channels: list[ChannelDifference]
    findings: list[FindingDifference]
    servers: list[ServerDifference]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Compare two report documents.

    Parameters
    ----------
    old, new : mapping
        Report documents (`analyzer.report.schema_document.Document`).

    Returns
    -------
    Difference
        Empty lists where nothing is different. Sorted: worst first, then by name.
    """
    before, after = as_document(old), as_document(new)
    same = _Identities(before, after)
    return {
        "diff_version": DIFF_VERSION,
        "old": [capture["name"] for capture in before["captures"]],
        "new": [capture["name"] for capture in after["captures"]],
        "channels": _channels(before, after),
        "findings": _findings(before, after, same),
        "servers": _servers(before, after, same),
    }


def is_empty(difference: Difference) -> bool:
    """Tell whether nothing is different."""
    return not (difference["channels"] or difference["findings"] or difference["servers"])


def diff_status(difference: Difference, documents: Iterable[Mapping[str, Any]], fail_on: str) -> int:
    """Status of the process.

    1 where a finding of the threshold or above appeared, concerns more servers or is no longer suppressed (with
    ``any``: where anything is different); else 4 where a capture is damaged or lacks frames; else 0.
    """
    if fail_on == "any":
        failed = not is_empty(difference)
    else:
        failed = any(f["worse"] and reaches(f["severity"], fail_on) for f in difference["findings"])
    if failed:
        return FINDINGS
    return INCOMPLETE if any(map(incomplete, documents)) else CLEAN


_Key = TypeVar("_Key")


class _Identities:
    """Who a server is, in both documents: by name where either of them knows it, else by address."""

    def __init__(self, old: Document, new: Document) -> None:
        self._names = [{e["address"]: e["names"][0] for e in d["endpoints"] if e["names"]} for d in (old, new)]

    def of(self, side: int, address: str, name: str) -> str:
        known = self._names[side].get(address) or self._names[1 - side].get(address) or name
        return _GENERATED.sub("", known) if known and "/" in known else known or address


def _pairs(
    old: Mapping[_Key, Any], new: Mapping[_Key, Any], differs: Callable[[Any, Any], bool]
) -> Iterable[tuple[State, _Key, Any, Any]]:
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            yield "went", key, old[key], None
        elif key not in old:
            yield "appeared", key, None, new[key]
        elif differs(old[key], new[key]):
            yield "changed", key, old[key], new[key]


def _channels(old: Document, new: Document) -> list[ChannelDifference]:
    before, after = ({channel["id"]: channel for channel in document["channels"]} for document in (old, new))
    found: list[ChannelDifference] = [
        {
            "state": state,
            "id": name,
            "title": (now or then)["title"],
            "old": then and then["verdict"],
            "new": now and now["verdict"],
            "sentence": (now or then)["sentence"],
        }
        for state, name, then, now in _pairs(before, after, lambda a, b: a["verdict"] != b["verdict"])
    ]
    order = ("at-risk", "undecidable", "sound", "informational", None)
    return sorted(found, key=lambda d: (order.index(d["new"]), _STATES.index(d["state"]), d["id"]))


def _findings(old: Document, new: Document, same: _Identities) -> list[FindingDifference]:
    sides = [_by_id(document, side, same) for side, document in enumerate((old, new))]
    found: list[FindingDifference] = []
    for state, name, then, now in _pairs(sides[0], sides[1], lambda a, b: bool(_finding_changes(a, b))):
        one = now or then
        # Nobody's problem is worse for a finding that is accepted.
        worse = now is not None and bool(now["active"]) and (then is None or bool(now["active"] - then["active"]))
        found.append(
            {
                "state": state,
                "id": name,
                "title": one["title"],
                "severity": one["severity"],
                "suppressed": not one["active"],
                "worse": worse,
                "changes": _finding_changes(then, now) if then and now else _concerns(one),
            }
        )
    return sorted(
        found, key=lambda d: (_STATES.index(d["state"]), SEVERITIES.index(d["severity"]), d["suppressed"], d["id"])
    )


def _by_id(document: Document, side: int, same: _Identities) -> dict[str, dict[str, Any]]:
    """Findings by id, their suppressed and their active part together, with the servers of each."""
    data = document["connections"]["data"]
    found: dict[str, dict[str, Any]] = {}
    for finding in document["findings"]:
        entry = found.setdefault(
            finding["id"],
            {"title": finding["title"], "severity": finding["severity"], "grade": finding["grade"],
             "active": set(), "accepted": set()},
        )  # fmt: skip
        entry["grade"] = min(entry["grade"], finding["grade"], key=_grade_rank)
        entry["accepted" if finding["suppression"] else "active"] |= _servers_of(finding, data, side, same)
    return found


def _grade_rank(grade: str) -> int:
    return ("observed", "inferred", "declared", "default", "none").index(grade)


def _servers_of(finding: FindingEntry, data: Mapping[str, list[Any]], side: int, same: _Identities) -> set[str]:
    return {
        f"{same.of(side, data['server_ip'][row], data['server_name'][row])}:{data['server_port'][row]}"
        for row in finding["connections"]
    }


def _concerns(entry: Mapping[str, Any]) -> list[str]:
    servers = sorted(entry["active"] | entry["accepted"])
    return [f"servers: {', '.join(servers)}"]


def _finding_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    changes = [f"{name}: {old[name]} -> {new[name]}" for name in ("severity", "grade") if old[name] != new[name]]
    for what, title in (("active", "servers"), ("accepted", "suppressed servers")):
        for word, more in (("more", new[what] - old[what]), ("fewer", old[what] - new[what])):
            if more:
                changes.append(f"{word} {title}: {', '.join(sorted(more))}")
    return changes


def _servers(old: Document, new: Document, same: _Identities) -> list[ServerDifference]:
    sides = [_answers(document, side, same) for side, document in enumerate((old, new))]
    found: list[ServerDifference] = []
    for state, (channel, server, question), then, now in _pairs(sides[0], sides[1], lambda a, b: a != b):
        found.append(
            {"state": state, "channel": channel, "server": server, "question": question, "old": then, "new": now}
        )
    return sorted(found, key=lambda d: (_STATES.index(d["state"]), d["channel"], d["server"], d["question"]))


def _answers(document: Document, side: int, same: _Identities) -> dict[tuple[str, str, str], str]:
    """Worst answer of each server of each channel between control plane and nodes, by question."""
    core = {channel["id"] for channel in document["channels"] if channel["core"]}
    data = document["connections"]["data"]
    seen: dict[tuple[str, str, str], set[str]] = {}
    for row, channel in enumerate(data["channel"]):
        if channel not in core or data["leg_of"][row] >= 0:
            continue
        server = f"{same.of(side, data['server_ip'][row], data['server_name'][row])}:{data['server_port'][row]}"
        for question in QUESTIONS:
            seen.setdefault((channel, server, question), set()).add(data[question][row])
    return {key: min(values, key=_WORST_FIRST[key[2]].index) for key, values in seen.items()}


# ------------------------------------------------------------------------------------------------ in words


def _arrow(old: str | None, new: str | None) -> str:
    return f"{old or 'not seen'} -> {new or 'not seen'}"


def _server_lines(difference: Difference) -> list[tuple[str, str]]:
    """Servers that appeared or went in one line each, the others one line a question."""
    lines: dict[str, str] = {}
    for entry in difference["servers"]:
        place = f"{entry['channel']} {entry['server']}"
        question = entry["question"].replace("_", " ")
        if entry["state"] == "changed":
            lines[f"{place}, {question}"] = _arrow(entry["old"], entry["new"])
        else:
            said = f"{question} {entry['old'] or entry['new']}"
            lines[place] = f"{lines[place]}, {said}" if place in lines else f"{entry['state']}: {said}"
    return list(lines.items())


def diff_text(difference: Difference) -> str:
    """Return the differences as plain text for a terminal; nothing of a capture reaches it unescaped."""
    lines = [f"old: {', '.join(difference['old'])}", f"new: {', '.join(difference['new'])}", ""]
    if is_empty(difference):
        return "\n".join([*map(visible, lines), "No difference."]) + "\n"
    if difference["channels"]:
        lines += ["Channels"]
        lines += [f"  {d['title']}: {_arrow(d['old'], d['new'])}\n    {d['sentence']}" for d in difference["channels"]]
    if difference["findings"]:
        lines += ["Findings"]
        for d in difference["findings"]:
            accepted = ", suppressed" if d["suppressed"] else ""
            lines.append(f"  {d['state']}: {d['severity'].upper()}{accepted} {d['id']} {d['title']}")
            lines += [f"    {change}" for change in d["changes"]]
    if difference["servers"]:
        lines += ["Servers"]
        lines += [f"  {place}: {said}" for place, said in _server_lines(difference)]
    return "\n".join("\n".join(map(visible, line.split("\n"))) for line in lines) + "\n"


def diff_markdown(difference: Difference) -> str:
    """Return the differences in Markdown, for a pull request."""
    names = [", ".join(map(code, difference[side])) for side in ("old", "new")]
    blocks = [f"## planewire diff: {names[0] or 'no capture'} to {names[1] or 'no capture'}"]
    if is_empty(difference):
        return "\n\n".join([*blocks, "No difference."]) + "\n"
    if difference["channels"]:
        rows = [
            f"| {markdown_safe(d['title'])} | {d['old'] or 'not seen'} | {d['new'] or 'not seen'} "
            f"| {markdown_safe(d['sentence'])} |"
            for d in difference["channels"]
        ]
        blocks.append("\n".join(["### Channels\n", "| Channel | Old | New | |", "| --- | --- | --- | --- |", *rows]))
    if difference["findings"]:
        rows = [
            f"- {d['state']}: {d['severity'].upper()}{' (suppressed)' if d['suppressed'] else ''} {code(d['id'])} "
            f"{markdown_safe(d['title'])}" + "".join(f"; {markdown_safe(change)}" for change in d["changes"])
            for d in difference["findings"]
        ]
        blocks.append("\n".join(["### Findings\n", *rows]))
    if difference["servers"]:
        rows = [f"- {code(place)}: {said}" for place, said in _server_lines(difference)]
        blocks.append("\n".join(["### Servers\n", *rows]))
    return "\n\n".join(blocks) + "\n"
