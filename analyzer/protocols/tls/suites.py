"""Cipher suites by number: the IANA registry as a table, and masks over columns of suite numbers."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

import numpy as np

from analyzer.schema import I64, U16, Mask

_SPACE: Final = 1 << 16


class CipherSuite(NamedTuple):
    """One row of ``data/cipher_suites.csv``; its header lists the flags."""

    name: str
    flags: frozenset[str]


@cache
def cipher_suites() -> dict[int, CipherSuite]:
    """Every suite known, by number."""
    text = files("analyzer.data").joinpath("cipher_suites.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {int(row["id"], 16): CipherSuite(row["name"], frozenset(row["flags"].split())) for row in rows}


@cache
def _flagged(flag: str) -> Mask:
    table = np.zeros(_SPACE, bool)
    table[[number for number, suite in cipher_suites().items() if flag in suite.flags]] = True
    return table


def suite_name(suite: int) -> str:
    """IANA name of a suite; ``0x`` and four digits where it is not registered."""
    known = cipher_suites().get(suite)
    return known.name if known else f"0x{suite:04x}"


def flagged(suite: U16 | I64, flag: str) -> Mask:
    """Where a suite has a flag: (N,) bool. Numbers outside 0-65535 have none."""
    inside = (suite >= 0) & (suite < _SPACE)
    chosen: Mask = inside & _flagged(flag)[np.where(inside, suite, 0)]
    return chosen


def null_cipher(suite: U16) -> Mask:
    """Suites that do not encrypt: (N,) bool.

    Notes
    -----
    0 (TLS_NULL_WITH_NULL_NULL) is one of them, and is also what ``TlsFacts.cipher_suite`` holds where no ServerHello
    was readable: check ``server_hello_seen``.
    """
    return flagged(suite, "null")


def anonymous_cipher(suite: U16) -> Mask:
    """Suites in which the server proves no identity at all (RFC 5246 A.5): (N,) bool. See `null_cipher` for 0."""
    return flagged(suite, "anon")
