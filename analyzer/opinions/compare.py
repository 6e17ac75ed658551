"""Hold a second opinion against the program's own: how often they agree, and why not where they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from analyzer.ledger import REASONS
from analyzer.opinions.common import Agreement, Conversation, Disagreement, Handshake, Opinion, Row, conversation
from analyzer.registries import Decode

_LINK_TAGS: Final = ("vlan", "mpls", "pppoe")


_HIDING: Final = frozenset(
    REASONS[status]
    for status in (
        Decode.TRUNCATED_LINK,
        Decode.TRUNCATED_NETWORK,
        Decode.TRUNCATED_TRANSPORT,
        Decode.BAD_NETWORK,
        Decode.BAD_TRANSPORT,
        Decode.UNSUPPORTED_LINK,
        Decode.TOO_DEEP,
    )
)
"""Reasons for not decoding a frame behind which TCP or UDP may stand."""


def own_opinion(document: Mapping[str, Any]) -> Opinion:
    """Return what a report document says."""
    data = document["connections"]["data"]
    opinion = Opinion("planewire", document["ledger"]["frames"])
    columns = ("encapsulation", "transport", "client_ip", "client_port", "server_ip", "server_port", "packets",
               "octets", "tls_version", "cipher_suite", "sni", "carried_by", "first_frame")  # fmt: skip
    rows = sorted(zip(*(data[name] for name in columns), strict=True), key=lambda row: row[-1])
    for path, transport, client, client_port, server, server_port, packets, octets, version, suite, sni, by, _ in rows:
        if transport not in ("tcp", "udp") or by >= 0:  # what another connection carries has no packets of its own
            continue
        one = conversation(level_of(path), transport, (client, client_port), (server, server_port))
        opinion.packets[one] += packets
        opinion.octets[one] += octets
        if version and suite and transport == "tcp":
            opinion.handshakes.setdefault(one, []).append(Handshake(version, suite, sni))
    return opinion


def udp_tunnels(document: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the VXLAN and Geneve ports in use, which need not be the registered ones (flannel: 8472)."""
    data = document["connections"]["data"]
    pairs = zip(data["protocol"], data["transport"], data["server_port"], strict=True)
    return sorted({(p, port) for p, transport, port in pairs if p in ("vxlan", "geneve") and transport == "udp"})


def level_of(path: str) -> int:
    """Tunnels in an encapsulation path: ``vlan:100/vxlan:1`` is one deep."""
    return sum(bool(step) and step.split(":", 1)[0] not in _LINK_TAGS for step in path.split("/"))


def compare(document: Mapping[str, Any], theirs: Opinion) -> Agreement:
    """Compare frames, conversations and handshakes.

    What the document says it left out explains as many missing packets, and no more; the same holds for the other
    reader.
    """
    ours = own_opinion(document)
    excuses = {reason: n for reason, n in document["ledger"]["not_decoded"].items() if reason in _HIDING}
    found: list[Disagreement] = []
    rows = [_frames(ours, theirs, found)]
    rows.append(_conversations(ours, theirs, excuses, found))
    rows.append(_handshakes(ours, theirs, document["quality"]["cut_by_snaplen"], found))
    return Agreement(tuple(rows), tuple(found))


def _frames(ours: Opinion, theirs: Opinion, found: list[Disagreement]) -> Row:
    same = ours.frames == theirs.frames
    if not same:
        found.append(Disagreement("frames", theirs.reader, "whole capture", str(ours.frames), str(theirs.frames), ""))
    return Row("frames", theirs.reader, int(same), int(not same), 0)


def _asked(one: Conversation, theirs: Opinion) -> bool:
    return one.level <= theirs.deepest


def _conversations(ours: Opinion, theirs: Opinion, excuses: dict[str, int], found: list[Disagreement]) -> Row:
    agree = skipped = 0
    begin = len(found)
    budget: Counter[str] = Counter(excuses)
    other_budget: Counter[str] = Counter(theirs.cannot)
    for one in sorted(ours.packets.keys() | theirs.packets.keys()):
        if not _asked(one, theirs):
            skipped += 1
            continue
        mine = (ours.packets[one], ours.octets[one])
        other = (theirs.packets[one], theirs.octets[one])
        if mine == other:
            agree += 1
            continue
        reason = _reason(mine[0] - other[0], one, ours, theirs, budget, other_budget)
        found.append(Disagreement("conversations", theirs.reader, str(one), _said(mine), _said(other), reason))
    return Row("conversations", theirs.reader, agree, len(found) - begin, skipped)


def _reason(
    more: int, one: Conversation, ours: Opinion, theirs: Opinion, budget: Counter[str], other_budget: Counter[str]
) -> str:
    """Why one reader has more packets of a conversation than the other; empty where neither says it left any out."""
    if more == 0:
        return ""
    pool = other_budget if more > 0 else budget
    who = theirs.reader if more > 0 else ours.reader
    for reason, left in pool.items():
        if left >= abs(more):
            pool[reason] -= abs(more)
            return f"{who} left {abs(more)} out: {reason}"
    return ""


def _said(totals: tuple[int, int]) -> str:
    return f"{totals[0]} packets, {totals[1]} octets" if totals[0] else "not seen"


def _handshakes(ours: Opinion, theirs: Opinion, cut: int, found: list[Disagreement]) -> Row:
    agree = skipped = 0
    begin = len(found)
    for one in sorted(ours.handshakes.keys() | theirs.handshakes.keys()):
        if not _asked(one, theirs):
            skipped += 1
            continue
        mine, other = ours.handshakes.get(one, []), theirs.handshakes.get(one, [])
        if mine == other:
            agree += len(mine)
            continue
        reason = ""
        if not other and len(mine) <= cut:
            cut -= len(mine)
            reason = f"packets of it are cut by the snap length, and {theirs.reader} reads whole hellos only"
        found.append(Disagreement("handshakes", theirs.reader, str(one), _shaken(mine), _shaken(other), reason))
    return Row("handshakes", theirs.reader, agree, len(found) - begin, skipped)


def _shaken(handshakes: list[Handshake]) -> str:
    return "; ".join(f"{h.version} {h.cipher_suite} {h.sni or 'no SNI'}" for h in handshakes) or "not seen"
