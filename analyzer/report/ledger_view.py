"""The ledger on a terminal: what was captured, what became of every frame, and what that leaves open.

A verdict is worth what the capture behind it is worth, so this stands before any verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analyzer.report.aged_out import MAX_GROUPS, aged_out_notes
from analyzer.report.schema_document import AgedOut, CaptureEntry, Document, ShareEntry
from analyzer.report.text import visible

MAX_LISTED: Final = 12
"""Captures, skipped files, comments and names shown; the JSON report has more."""

_SHARE_TITLES: Final = {
    "connections": "all",
    "handshake_seen": "handshake seen",
    "mid_connection": "began before",
    "one_sided": "one-sided",
    "cut_by_snaplen": "cut by snap length",
    "with_gaps": "with gaps",
    "crowded": "too many requests",
    "conflicting": "with conflicting octets",
}


def brief(document: Document, rule: box.Box, *, wide: bool = True) -> list[RenderableType]:
    """What stands before the verdicts of an audit: the sums, the drops, and the shares where something is missing.

    Where the terminal is not `wide`, what a share means for the verdicts stands among what could not be judged alone.
    """
    ledger = document["ledger"]
    sums = f"{ledger['frames']:,} frames read, {ledger['decoded']:,} decoded"
    sums += "".join(f", {count:,} {visible(reason)}" for reason, count in ledger["not_decoded"].items())
    sums += f"; {ledger['packets_in_flows']:,} packets in {ledger['flows']:,} flows"
    sums += "".join(f", {count:,} {visible(reason)}" for reason, count in ledger["packets_outside_flows"].items())
    parts: list[RenderableType] = [_plain(f"Ledger: {sums}. {_dropped(document)}")]
    if not ledger["balanced"]:
        parts.append(Text("The ledger does not balance: please report this as a defect.", style="bold red"))
    parts += _places(document)
    parts += [_plain(note) for note in aged_out_notes(document)]
    if any(share["name"] not in ("connections", "handshake_seen") for share in document["quality"]["shares"]):
        parts.append(_shares(document["quality"]["shares"], rule, wide=wide))
    return parts


def whole(document: Document, rule: box.Box, *, wide: bool = True) -> list[RenderableType]:
    """All of it, for ``planewire ledger``.

    Where the terminal is not `wide`, what a share means for the verdicts stands below its table.
    """
    parts: list[RenderableType] = [Text("Captures", style="bold"), _captures(document["captures"], rule)]
    for capture in document["captures"][:MAX_LISTED]:
        parts += _facts(capture)
    parts += [Text(), Text("Every frame accounted for", style="bold"), _sums(document, rule)]
    balanced = document["ledger"]["balanced"]
    parts.append(
        Text("Balanced.", style="green")
        if balanced
        else Text("Not balanced: please report this as a defect.", style="bold red")
    )
    parts.append(_plain(_dropped(document)))
    if document["quality"]["shares"]:
        parts += [Text(), Text("What was captured of the TCP connections that carried payload", style="bold")]
        parts.append(_shares(document["quality"]["shares"], rule, wide=wide))
        if not wide:
            parts += [
                _indented(f"{_SHARE_TITLES.get(share['name'], share['name'])}: {share['meaning']}")
                for share in document["quality"]["shares"]
            ]
    places = _places(document)
    if places:
        parts += [Text(), Text("Vantage points", style="bold"), *places]
    if "aged_out" in document:
        parts += [Text(), Text("Connections that aged out", style="bold")]
        parts += [_plain(note) for note in aged_out_notes(document)]
        parts.append(_aged_out(document["aged_out"], rule))
    skipped = document["skipped"]
    if skipped["count"]:
        parts += [Text(), Text(f"Skipped: {skipped['count']:,} files", style="bold")]
        parts += [_indented(f"{s['name']}: {s['reason']}") for s in skipped["files"][:MAX_LISTED]]
        if skipped["count"] > MAX_LISTED:
            parts.append(_indented(f"and {skipped['count'] - MAX_LISTED:,} more"))
    named = [entry for entry in document["endpoints"] if entry["capture_names"]]
    if named:
        parts += [Text(), Text("Names that the capture gives (they decide nothing)", style="bold")]
        parts += [_indented(f"{entry['address']}: {', '.join(entry['capture_names'])}") for entry in named[:MAX_LISTED]]
        if len(named) > MAX_LISTED:
            parts.append(_indented(f"and {len(named) - MAX_LISTED:,} more addresses"))
    return parts


def _dropped(document: Document) -> str:
    dropped = document["quality"]["dropped"]
    if dropped is None:
        return "Whether frames were dropped while capturing is not recorded in the capture."
    stated = [i["dropped"] is not None for capture in document["captures"] for i in capture["interfaces"]]
    where = "" if all(stated) else f" on {sum(stated)} of {len(stated)} interfaces (the others do not record it)"
    if not dropped:
        return f"The capture states that no frame was dropped{where}."
    received = sum(i["received"] or 0 for capture in document["captures"] for i in capture["interfaces"])
    share = f" of {received:,} received" if received else ""
    return f"The capture states that {dropped:,} frames{share} were dropped{where}: what they held is in no verdict."


def _places(document: Document) -> list[RenderableType]:
    """The vantage points, what was assumed about them, and their clocks; nothing where there is but one."""
    captures = document["captures"]
    parts: list[RenderableType] = []
    if len(captures) < 2:
        return parts
    points = document["vantage_points"]
    for point in points[:MAX_LISTED]:
        files = [captures[row]["name"] for row in point["captures"]]
        listed = ", ".join(files[:3]) + (f" and {len(files) - 3:,} more" if len(files) > 3 else "")
        name = f"{point['name']}: " if point["name"] else ""
        why = f" ({point['assumed']})" if point["assumed"] else ""
        seen = f"; {point['seen_elsewhere']:,} of its {point['flows']:,} flows are seen elsewhere too"
        parts.append(_indented(f"{name}{listed}{why}{seen if len(points) > 1 else ''}"))
    if len(points) > MAX_LISTED:
        parts.append(_indented(f"and {len(points) - MAX_LISTED:,} more vantage points"))
    notes = [note for note in document["quality"]["notes"] if " both saw " in note]
    parts += [_indented(note) for note in notes[:MAX_LISTED]]
    if any(not point["given"] for point in points):
        parts.append(_indented("--node NAME=PATH says which captures belong together, and what to call them."))
    return [_plain(f"{len(points):,} vantage point{'' if len(points) == 1 else 's'}:"), *parts]


def _shares(shares: Sequence[ShareEntry], rule: box.Box, *, wide: bool = True) -> Table:
    table = Table(box=rule, expand=False, pad_edge=False, header_style="bold")
    table.add_column("Connections", overflow="fold")
    for title in ("Number", "Packets", "Octets", "Undecidable *"):
        table.add_column(title, justify="right", no_wrap=True)
    if wide:
        table.add_column("What it means for the verdicts", overflow="fold")
    whole_share = shares[0]
    for share in shares:
        cells = [
            f"{share[name]:,}"
            if share is whole_share
            else f"{share[name]:,} ({_percent(share[name], whole_share[name])})"
            for name in ("connections", "packets", "octets")
        ]
        open_ones = " / ".join(str(count) for count in share["undecidable"].values())
        table.add_row(_SHARE_TITLES.get(share["name"], share["name"]), *cells, open_ones, *[share["meaning"]] * wide)
    table.caption = "* encryption / client certificate / server check"
    table.caption_justify = "left"
    return table


def _to_the_second(time: str) -> str:
    return f"{time[:10]} {time[11:19]}Z" if time else ""


def _percent(part: int, total: int) -> str:
    return f"{100 * part / total:.0f} %" if total else "0 %"


def _captures(captures: Sequence[CaptureEntry], rule: box.Box) -> Table:
    table = Table(box=rule, expand=False, pad_edge=False, header_style="bold")
    table.add_column("Capture", overflow="fold")
    table.add_column("Format", no_wrap=True)
    for title in ("Octets", "Frames", "Decoded", "In flows"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("First frame", overflow="fold")
    for capture in captures[: MAX_LISTED * 4]:
        ledger = capture["ledger"]
        table.add_row(
            Text(visible(capture["name"])),
            capture["format"],
            f"{capture['octets']:,}",
            f"{capture['frames']:,}",
            f"{ledger['decoded']:,}" if ledger is not None else "",
            f"{ledger['packets_in_flows']:,}" if ledger is not None else "",
            _to_the_second(capture["first_time"] or ""),
        )
    if len(captures) > MAX_LISTED * 4:
        table.add_row(f"and {len(captures) - MAX_LISTED * 4:,} more")
    return table


def _facts(capture: CaptureEntry) -> list[RenderableType]:
    """What one capture says of itself."""
    lines = []
    for interface in capture["interfaces"][:MAX_LISTED]:
        told = [interface["description"], interface["hardware"], interface["system"]]
        snaplen = interface["snaplen"]
        limited = f"first {snaplen:,} octets" if 0 < snaplen < 65535 else "whole frames"
        counts = [f"{interface[key]:,} {key}" for key in ("received", "dropped") if interface[key] is not None]
        filtered = [f"filter {interface['filter']!r}: what it kept out is not judged"] if interface["filter"] else []
        facts = ", ".join([str(interface["link_type"]), limited, *filter(None, told), *counts, *filtered])
        lines.append(f"interface {interface['name'] or 'without a name'}: {facts}")
    for damage in capture["damage"]:
        lines.append(f"damaged at offset {damage['offset']:,}: {damage['reason']}")
    for comment in capture["comments"][:MAX_LISTED]:
        where = f"frame {comment['number']}" if comment["number"] else "capture"
        lines.append(f"comment on {where}: {comment['text']}")
    if capture["comment_count"] > MAX_LISTED:
        lines.append(f"and {capture['comment_count'] - MAX_LISTED:,} more comments")
    if not lines:
        return []
    return [_plain(capture["name"]), *(_indented(line) for line in lines)]


def _sums(document: Document, rule: box.Box) -> Table:
    table = Table(box=rule, expand=False, pad_edge=False, show_header=False)
    table.add_column("what", overflow="fold")
    table.add_column("number", justify="right", no_wrap=True)
    for label, number in document["ledger"]["lines"]:
        table.add_row(Text(visible(str(label))), f"{int(number):,}")
    return table


def _aged_out(gone: AgedOut, rule: box.Box) -> Table:
    table = Table(box=rule, expand=False, pad_edge=False)
    for name in ("Channel", "Encryption", "Client certificate", "Server check"):
        table.add_column(name, overflow="fold")
    for name in ("Connections", "Packets"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in gone["groups"][:MAX_GROUPS]:
        answers = (group["encryption"], group["client_certificate"], group["server_verification"])
        table.add_row(Text(visible(group["title"])), *answers, f"{group['connections']:,}", f"{group['packets']:,}")
    if len(gone["groups"]) > MAX_GROUPS:
        table.add_row(Text(f"and {len(gone['groups']) - MAX_GROUPS:,} more"))
    return table


def _plain(text: str) -> Text:
    return Text(visible(text))


def _indented(text: str) -> Padding:
    line = _plain(text)
    line.overflow = "fold"
    return Padding(line, (0, 0, 0, 2), expand=False)
