"""What the connections of one channel have in common: TLS facts, software, and the reasons behind the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from analyzer.report.schema_document import QUESTIONS, Connections

FACTS: Final = {
    "protocol": "Protocol",
    "tls_version": "TLS version",
    "cipher_suite": "Cipher suite",
    "group": "Key exchange",
    "alpn": "ALPN",
    "client_stack": "Client software",
    "user_agent": "User agent",
    "encapsulation": "Inside",
    "handshake": "Handshake",
    "activity": "Activity",
}
_SHOWN: Final = 4
"""Values of one fact shown; the rest is counted."""


@dataclass(slots=True)
class ChannelFacts:
    """Counted over the connections of one channel, second legs left out.

    ``facts``: title -> (value, connections), the commonest first; ``reasons``: question -> (answer, grade, reason,
    connections); ``more``: title -> values that are not shown.
    """

    facts: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    reasons: dict[str, list[tuple[str, str, str, int]]] = field(default_factory=dict)
    more: dict[str, int] = field(default_factory=dict)


def channel_facts(connections: Connections) -> Mapping[str, ChannelFacts]:
    """Return the facts by channel id."""
    data: Mapping[str, list[Any]] = connections["data"]
    rows: dict[str, list[int]] = {}
    for row, (channel, leg) in enumerate(zip(data["channel"], data["leg_of"], strict=True)):
        if leg < 0:
            rows.setdefault(channel, []).append(row)
    return {channel: _facts(data, members) for channel, members in rows.items()}


def _facts(data: Mapping[str, list[Any]], rows: list[int]) -> ChannelFacts:
    found = ChannelFacts()
    for name, title in FACTS.items():
        if name not in data:
            continue
        counts = Counter(str(data[name][row]) for row in rows if data[name][row] not in ("", None))
        if counts:
            found.facts[title] = counts.most_common(_SHOWN)
            if len(counts) > _SHOWN:
                found.more[title] = len(counts) - _SHOWN
    for question in QUESTIONS:
        columns = [data[f"{question}{suffix}"] for suffix in ("", "_grade", "_reason")]
        reasons = Counter((columns[0][row], columns[1][row], columns[2][row]) for row in rows)
        found.reasons[question] = [(*key, count) for key, count in reasons.most_common(_SHOWN)]
        if len(reasons) > _SHOWN:
            found.more[question] = len(reasons) - _SHOWN
    return found
