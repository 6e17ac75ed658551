"""Sizes, times and addresses as people write them: ``100MB``, ``64MiB``, ``90s``, ``15m``, ``:9464``.

Functions that click takes as the type of an option.
"""

from __future__ import annotations

import re
from typing import Final

import click

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]?)(i?)[bB]?")
_TIME: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|m|h|d)?")
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def size(text: str) -> int:
    """Octets: a number, with k, M, G or T (powers of 1000) or Ki, Mi, Gi, Ti (of 1024), and B or not."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise click.BadParameter(f"{text!r} is no size; write 500kB, 100MB or 64MiB")
    octets = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].upper()])
    if octets < 1:
        raise click.BadParameter(f"{text!r} is less than an octet")
    return octets


def seconds(text: str) -> float:
    """Seconds: a number, with ms, s, m, h or d."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is no time; write 90s, 15m, 2h or 1d")
    found = float(match[1]) * _SECONDS[match[2] or "s"]
    if found <= 0:
        raise click.BadParameter(f"{text!r} is no time at all")
    return found


def address(text: str) -> tuple[str, int]:
    """Host and port of ``[HOST]:PORT``; without a host the loopback address, IPv6 in brackets."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not port.isdecimal() or not 0 <= int(port) < 65536 or (":" in bare and bare == host):
        raise click.BadParameter(f"{text!r}: expected [HOST]:PORT, as in :9464, 0.0.0.0:9464 or [::]:9464")
    return bare or "127.0.0.1", int(port)
