"""Cipher suites by number: name, and whether they encrypt and authenticate."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

import numpy as np

from analyzer.schema import U16, Mask


@cache
def _table() -> dict[int, tuple[str, frozenset[str]]]:
    text = files("analyzer.data").joinpath("cipher_suites.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {int(row["id"], 16): (row["name"], frozenset(row["flags"].split())) for row in rows}


@cache
def _flagged(flag: str) -> U16:
    return np.array(sorted(number for number, (_, flags) in _table().items() if flag in flags), np.uint16)


def suite_name(number: int) -> str:
    """IANA name of a cipher suite, or its number in hexadecimal where it has none."""
    known = _table().get(number)
    return known[0] if known else f"0x{number:04X}"


def null_cipher(suites: U16) -> Mask:
    """Suites that do not encrypt: (N,) uint16 -> (N,) bool."""
    chosen: Mask = np.isin(suites, _flagged("null"))
    return chosen


def anonymous_cipher(suites: U16) -> Mask:
    """Suites whose key exchange is not authenticated: (N,) uint16 -> (N,) bool."""
    chosen: Mask = np.isin(suites, _flagged("anon"))
    return chosen


def sha384_suite(suites: U16) -> Mask:
    """TLS 1.3 suites whose Finished is 48 octets (RFC 8446 B.4): (N,) uint16 -> (N,) bool."""
    return suites == 0x1302


def short_tag_suite(suites: U16) -> Mask:
    """TLS 1.3 suites with a tag of 8 octets (TLS_AES_128_CCM_8_SHA256): (N,) uint16 -> (N,) bool."""
    return suites == 0x1305
