"""Suppressions: findings somebody has accepted, with a reason and until a date.

A suppression takes a finding out of the exit status and out of the counts by severity, and nothing else: the finding
is still shown, marked, with its reason, and no verdict changes. A suppression that narrows to some connections splits
the finding: those it names are suppressed, the others are not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.cluster.roles import address_text

if TYPE_CHECKING:
    from analyzer.rules.base import Audit, Rule
    from analyzer.schema import I64

SCOPES: Final = ("channel", "server", "client")
"""Fields that narrow a suppression."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the ``server`` or ``client`` of a suppression names; an empty pattern names every endpoint.

    ``10.0.0.12``, ``10.0.0.0/24``, ``node2``, ``monitoring/prometheus-*``, each with ``:10250`` behind it or not.
    """

    text: str = ""
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    name: str = ""
    port: int | None = None

    def __bool__(self) -> bool:
        return bool(self.text)

    def covers(self, address: str, name: str, port: int) -> bool:
        """Tell whether the endpoint of this address, name and port is one of those named."""
        if self.port is not None and port != self.port:
            return False
        if self.network is not None:
            return ipaddress.ip_address(address) in self.network
        return bool(name) and fnmatchcase(name, self.name)


@dataclass(frozen=True, slots=True)
class Suppression:
    """One entry of the file."""

    code: str
    reason: str
    author: str
    expires: date  #: the last day it counts
    channel: str = ""
    server: Endpoint = Endpoint()
    client: Endpoint = Endpoint()
    source: str = ""
    line: int = 0

    def live(self, day: date) -> bool:
        """Tell whether it still counts on `day`."""
        return day <= self.expires


@dataclass(frozen=True, slots=True)
class Suppressions:
    """All entries handed over, and the day they are judged on."""

    entries: tuple[Suppression, ...] = ()
    as_of: date | None = None

    def live(self) -> list[int]:
        """Rows of the entries that count."""
        day = self.as_of
        return [] if day is None else [row for row, entry in enumerate(self.entries) if entry.live(day)]

    def applying(self, rule: Rule, audit: Audit, rows: I64) -> I64:
        """Return the entry that covers each violating connection, the first in the file: (R,) int64, -1 = none."""
        chosen = np.full(rows.shape[0], -1, np.int64)
        concerned = [(row, self.entries[row]) for row in self.live() if self.entries[row].code == rule.code]
        if not concerned or rows.shape[0] == 0:
            return chosen
        # Connections of one channel between the same two ends are covered alike: each is looked at once.
        ports = audit.evidence.flows.port[rows].astype(np.int64)
        if not any(entry.client.port for _, entry in concerned):
            ports[:, 0] = 0
        keys = np.stack([audit.channels.channel[rows], audit.roles.client[rows], audit.roles.server[rows], *ports.T])
        distinct, which = np.unique(keys, axis=1, return_inverse=True)
        covered = [_first_covering(audit, concerned, *key) for key in distinct.T.tolist()]
        return np.array(covered, np.int64)[which.reshape(-1)]


def _first_covering(
    audit: Audit, entries: Sequence[tuple[int, Suppression]], channel: int, client: int, server: int, *ports: int
) -> int:
    """Row of the first entry that covers connections of a channel between two ends; -1 = none."""
    name = channels()[channel].id
    ends = [
        (address_text(audit.roles.addresses[row]), audit.roles.names.get(row, ""), port)
        for row, port in zip((client, server), ports, strict=True)
    ]
    for row, entry in entries:
        if (not entry.channel or entry.channel == name) and all(
            not end or end.covers(*ends[side]) for side, end in enumerate((entry.client, entry.server))
        ):
            return row
    return -1


def endpoint(text: str) -> Endpoint:
    """Read an address, a network or a name, with a port behind it or not.

    Raises
    ------
    ValueError
        The port is no port.
    """
    if not text:
        return Endpoint()
    bare, port = text, ""
    if text.startswith("[") and "]" in text:
        bare, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        bare, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is no port")
    number = int(port) if port else None
    try:
        return Endpoint(text, ipaddress.ip_network(bare, strict=False), "", number)
    except ValueError:
        return Endpoint(text, None, bare, number)
