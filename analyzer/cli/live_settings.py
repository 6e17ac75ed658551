"""What the user of ``planewire live`` said, and what makes no sense together. No numpy here: ``--help`` needs it."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from typing import Any, Final

import click

from analyzer.cli.outputs import Outputs
from analyzer.cli.quantities import seconds

AGES: Final[dict[str, float]] = {
    "closed": 10.0,
    "half-closed": 120.0,
    "unanswered": 120.0,
    "tcp-idle": 7440.0,
    "tcp-forget": 432_000.0,
    "udp": 30.0,
    "udp-stream": 120.0,
    "other": 600.0,
}
"""Repeated from `session.Ageing` (``*_s``), so that ``--help`` needs no numpy; a test compares."""
RETAIN: Final = 20_000
MAX_CONNECTIONS: Final = 100_000


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """What the user said, beside the files to write."""

    source: str | None
    interface: tuple[str, ...]
    bpf: str | None
    snaplen: int
    promiscuous: bool
    buffer: int
    user: str | None
    cluster: tuple[str, ...]
    expect: str | None
    keys: tuple[str, ...]
    suppress: str | None
    head_octets: int | None
    duration: float | None
    packets: int | None
    interval: float | None
    write: str | None
    rotate: int | None
    keep: int | None
    shown_as: str | None
    metrics: tuple[str, int] | None
    age: tuple[str, ...]
    retain: int
    max_connections: int
    fail_on: str
    quiet: bool
    no_color: bool


def check_usage(settings: LiveSettings, outputs: Outputs) -> str | None:
    """Refuse what makes no sense; what to show, None for nothing."""
    if settings.source is None and not settings.interface:
        raise click.UsageError(f"Say what to listen to: -i with one of {_interfaces()}; or - for standard input.")
    if settings.source is not None and settings.interface:
        raise click.UsageError("-i and a capture to read exclude each other.")
    if settings.source is not None and settings.source != "-" and not _is_address(settings.source):
        known = {name for _, name in socket.if_nameindex()} | {"any"}
        hint = f"-i {settings.source}" if settings.source in known else f"planewire analyze --follow {settings.source}"
        raise click.UsageError(f"{settings.source!r} is neither - nor tcp://HOST:PORT; try {hint}")
    if settings.source == "-" and sys.stdin is not None and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal: pipe a capture into it (tcpdump -U -w - | ...).")
    if settings.source is not None and settings.bpf is not None:
        raise click.UsageError("--filter goes with -i; give the filter to whoever captures.")
    if settings.write is None and (settings.rotate is not None or settings.keep is not None):
        raise click.UsageError("--rotate and --keep go with --write.")
    if settings.write == "-" and (settings.shown_as is not None or outputs.on_standard_output):
        raise click.UsageError("--write - leaves no place for anything else on standard output.")
    if settings.write == "-" and sys.stdout.isatty():
        raise click.UsageError("--write - needs somebody who reads: standard output is a terminal.")
    if settings.write == "-" and (settings.rotate is not None or settings.keep is not None):
        raise click.UsageError("standard output cannot be rotated.")
    if settings.interval is not None:
        if outputs == Outputs():
            raise click.UsageError("--interval writes reports again and again: name one (--json, --html, --csv ...).")
        if outputs.on_standard_output:
            raise click.UsageError("--interval replaces files; standard output cannot be replaced.")
    if outputs.on_standard_output and settings.shown_as is not None:
        raise click.UsageError("--format has no place where a report goes to standard output.")
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if settings.shown_as == "screen" and not terminal:
        raise click.UsageError("--format screen needs a terminal.")
    if settings.quiet or outputs.on_standard_output or settings.write == "-":
        return None
    return settings.shown_as or ("screen" if terminal else "lines")


def _interfaces() -> str:
    try:
        return ", ".join(["any", *(name for _, name in socket.if_nameindex())])
    except OSError:
        return "any"


def _is_address(text: str) -> bool:
    from analyzer.capture.growing import parse_address

    return parse_address(text) is not None


def ageing_fields(settings: LiveSettings) -> dict[str, Any]:
    """The fields of `session.Ageing` that the user set."""
    fields: dict[str, Any] = {"retain": settings.retain, "most": settings.max_connections}
    for text in settings.age:
        name, equals, value = text.partition("=")
        if not equals or name not in AGES:
            raise click.UsageError(f"--age {text!r}: expected NAME=TIME with one of {', '.join(AGES)}.")
        fields[f"{name.replace('-', '_')}_s"] = seconds(value)
    return fields
