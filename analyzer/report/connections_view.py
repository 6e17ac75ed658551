"""Connections as the page shows them: grouped, row by row, and packed for the script that searches them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from analyzer.report.schema_document import QUESTIONS, Connections
from analyzer.report.text import visible

MAX_ROWS: Final = 200
"""Rows that are in the page without script."""
MAX_PACKED: Final = 10_000
"""Rows that the script can search; keeps the page below 2 MB."""
MAX_GROUPS: Final = 30
"""Groups listed for each channel."""

_PACKED: Final = (
    "client_name",
    "client_ip",
    "client_port",
    "server_name",
    "server_ip",
    "server_port",
    "channel",
    "transport",
    "protocol",
    "tls_version",
    "alpn",
    "sni",
    "encryption",
    "encryption_grade",
    "client_certificate",
    "client_certificate_grade",
    "server_verification",
    "server_verification_grade",
    "first_frame",
    "packets",
    "octets",
    "leg_of",
    "encapsulation",
    "handshake",
    "cipher_suite",
    "group",
    "client_stack",
    "ja4",
    "server_certificate",
    "client_certificate_subject",
    "user_agent",
    "activity",
    "channel_reason",
    "encryption_reason",
    "client_certificate_reason",
    "server_verification_reason",
    "duration_s",
)
_IF_THERE: Final = (
    "decryption",
    "http_statuses",
    "credentials",
    "hassh",
    "hassh_server",
    "ssh_algorithms",
    "ssh_weak",
    "carried_by",
)
"""Columns packed where the document has them and they say anything."""
_OWN_INDEX: Final = frozenset({"client_name", "client_ip", "server_name", "server_ip", "sni"})
"""Text columns with many values; all others together take few combinations."""
_FOLLOWS: Final = {"client_name": "client_ip", "server_name": "server_ip"}
"""Columns that another column nearly always decides: told once for each of its values."""


@dataclass(slots=True)
class Group:
    """Connections of one channel between one client and one server port."""

    client: str
    server: str
    connections: int = 0
    octets: int = 0
    first_frame: int = 0
    answers: dict[str, Counter[tuple[str, str]]] = field(
        default_factory=lambda: {question: Counter() for question in QUESTIONS}
    )


@dataclass(frozen=True, slots=True)
class ChannelGroups:
    """Groups of one channel, most connections first, and what is not listed."""

    channel: str
    groups: Sequence[Group]
    more_groups: int
    more_connections: int


def row_order(connections: Connections, channels: Sequence[str]) -> list[int]:
    """Return all rows, by channel in the order given, by number within one."""
    rank = {channel: position for position, channel in enumerate(channels)}
    channel = connections["data"]["channel"]
    return sorted(range(len(channel)), key=lambda row: (rank.get(channel[row], len(rank)), row))


def rows(connections: Connections, order: Sequence[int]) -> list[dict[str, Any]]:
    """Return the given rows as dictionaries with their number under ``row``."""
    data = connections["data"]
    return [{"row": row, **{name: data[name][row] for name in _PACKED}} for row in order]


def grouped(connections: Connections, channels: Sequence[str]) -> list[ChannelGroups]:
    """Return the connections (second legs left out) grouped by channel, client and server port."""
    data = connections["data"]
    found: dict[str, dict[tuple[str, str], Group]] = {channel: {} for channel in channels}
    columns = [data[name] for name in ("channel", "client_name", "client_ip", "server_name", "server_ip")]
    columns += [data[name] for name in ("server_port", "octets", "first_frame", "leg_of")]
    answers = {question: list(zip(data[question], data[f"{question}_grade"], strict=True)) for question in QUESTIONS}
    for row, (channel, client_name, client_ip, server_name, server_ip, port, octets, frame, leg) in enumerate(
        zip(*columns, strict=True)
    ):
        if leg >= 0 or channel not in found:
            continue
        client = client_name or client_ip
        server = f"{server_name or endpoint(server_ip)}:{port}"
        group = found[channel].get((client, server))
        if group is None:
            group = found[channel][client, server] = Group(client, server, first_frame=frame)
        group.connections += 1
        group.octets += octets
        for question, column in answers.items():
            group.answers[question][column[row]] += 1
    return [_listed(channel, list(groups.values())) for channel, groups in found.items() if groups]


def endpoint(address: str) -> str:
    """Return an address as it stands before ``:port`` (RFC 3986 3.2.2: IPv6 in brackets)."""
    return f"[{address}]" if ":" in address else address


def packed(connections: Connections, order: Sequence[int], titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the rows in the compact form the page's script reads.

    Number columns are numbers. Text columns are their distinct values and indexes into them: one a row in the columns
    of `_OWN_INDEX`; one a *kind* in the others, a kind being a combination of their values, of which there are few. A
    column with one value is that value alone; one that follows another maps that one's values to its own.

    Parameters
    ----------
    connections : Connections
    order : sequence of int
        Rows to pack, in this order.
    titles : mapping of str to str
        Channel titles by id.
    """
    columns: dict[str, Any] = {}
    codes: dict[str, list[int]] = {}
    for name in (*_PACKED, *(name for name in _IF_THERE if name in connections["data"])):
        values = [connections["data"][name][row] for row in order]
        if name in _IF_THERE and not set(values) - {"", None, -1}:
            continue
        if all(type(value) is int or type(value) is float for value in values):
            columns[name] = {"number": values[0]} if len(set(values)) == 1 else {"numbers": values}
        else:
            index: dict[str, int] = {}
            codes[name] = [index.setdefault("" if value is None else str(value), len(index)) for value in values]
            columns[name] = {"values": [visible(text) for text in index]}
    shared = [name for name in codes if name not in _OWN_INDEX]
    kinds: dict[tuple[int, ...], int] = {}
    kind = [kinds.setdefault(key, len(kinds)) for key in zip(*(codes[name] for name in shared), strict=True)]
    for place, name in enumerate(shared):
        columns[name]["kinds"] = [key[place] for key in kinds]
    for name in codes.keys() & _OWN_INDEX:
        if len(columns[name]["values"]) > 1:
            columns[name]["rows"] = codes[name]
    for name, key in _FOLLOWS.items() if order else ():
        known = dict(zip(codes[key], codes[name], strict=True))
        if all(known[a] == b for a, b in zip(codes[key], codes[name], strict=True)) and "rows" in columns[key]:
            columns[name] = {
                "values": columns[name]["values"],
                "of": key,
                "map": [known[code] for code in range(len(columns[key]["values"]))],
            }
    return {"count": len(order), "row": list(order), "titles": dict(titles), "kind": kind, "columns": columns}


def _listed(channel: str, groups: list[Group]) -> ChannelGroups:
    groups.sort(key=lambda group: (-group.connections, group.client, group.server))
    rest = groups[MAX_GROUPS:]
    return ChannelGroups(channel, groups[:MAX_GROUPS], len(rest), sum(group.connections for group in rest))
