"""The channel catalogue and the port list: data under ``analyzer/data``, checked when read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from analyzer.errors import CatalogueError

UNKNOWN_CHANNEL = "unknown"

_Record = TypeVar("_Record", "Channel", "Port")


@dataclass(frozen=True, slots=True)
class Channel:
    """One row of ``channels.toml``; that file says what each key means."""

    id: str
    title: str
    direction: str
    client: str
    server: str
    expects: str
    default: str
    core: bool
    source: str


@dataclass(frozen=True, slots=True)
class Port:
    """One row of ``ports.toml``."""

    number: int
    transport: str
    service: str
    source: str


_CHOICES: Mapping[str, frozenset[str]] = {
    "direction": frozenset(
        {"control-plane-to-node", "node-to-control-plane", "control-plane", "user", "cluster", "unknown"}
    ),
    "expects": frozenset({"mutual-tls", "tls", "encrypted", "cleartext-by-default", "any"}),
    "transport": frozenset({"tcp", "udp", "any"}),
}

_UNKNOWN = Channel(
    id=UNKNOWN_CHANNEL,
    title="Not recognised",
    direction="unknown",
    client="any",
    server="any",
    expects="any",
    default="",
    core=False,
    source="",
)


def _row(kind: type[_Record], row: Mapping[str, Any], name: str) -> _Record:
    """Make a record of one TOML table, refusing what the schema does not say."""
    known = {f.name: f.type for f in fields(kind)}
    for key in row:
        if key not in known:
            raise CatalogueError(name, key, "unknown key")
    for key, declared in known.items():
        if key not in row:
            raise CatalogueError(name, key, "missing key")
        value = row[key]
        if type(value).__name__ != declared:
            raise CatalogueError(name, key, f"expected {declared}, found {type(value).__name__}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise CatalogueError(name, key, f"{value!r} is none of {', '.join(sorted(_CHOICES[key]))}")
    return kind(**row)


def read_channels(text: str) -> tuple[Channel, ...]:
    """Read a channel catalogue.

    Raises
    ------
    CatalogueError
        On an unknown or missing key, a value of the wrong type or outside its choices, or a repeated id.
    """
    rows = tomllib.loads(text).get("channel", [])
    channels = tuple(_row(Channel, row, str(row.get("id", f"#{i}"))) for i, row in enumerate(rows))
    seen: set[str] = {UNKNOWN_CHANNEL}
    for channel in channels:
        if channel.id in seen:
            raise CatalogueError(channel.id, "id", "is used twice")
        seen.add(channel.id)
    return (_UNKNOWN, *channels)


def read_ports(text: str, channels: tuple[Channel, ...]) -> tuple[Port, ...]:
    """Read a port list; every service must be a channel of the catalogue.

    Raises
    ------
    CatalogueError
        As `read_channels`, and on a service that is no channel.
    """
    rows = tomllib.loads(text).get("port", [])
    ports = tuple(_row(Port, row, str(row.get("number", f"#{i}"))) for i, row in enumerate(rows))
    known = {channel.id for channel in channels}
    for port in ports:
        if port.service not in known:
            raise CatalogueError(str(port.number), "service", f"{port.service!r} is no channel")
    return ports


@cache
def channels() -> tuple[Channel, ...]:
    """The catalogue that comes with the program; row 0 is the unknown channel."""
    return read_channels(files("analyzer.data").joinpath("channels.toml").read_text("utf-8"))


@cache
def ports() -> tuple[Port, ...]:
    """The port list that comes with the program."""
    return read_ports(files("analyzer.data").joinpath("ports.toml").read_text("utf-8"), channels())
