"""Sizes, times and addresses as people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import pytest

from analyzer.cli.quantities import address, seconds, size


@pytest.mark.parametrize(
    ("text", "octets"),
    [("1", 1), ("100MB", 100_000_000), ("64MiB", 64 << 20), ("1.5k", 1500), ("2G", 2 * 10**9), ("1 TiB", 1 << 40)],
)
def test_sizes(text: str, octets: int) -> None:
    assert size(text) == octets


@pytest.mark.parametrize(
    ("text", "length"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("250ms", 0.25)]
)
def test_times(text: str, length: float) -> None:
    assert seconds(text) == pytest.approx(length)


@pytest.mark.parametrize(
    ("text", "host_and_port"),
    [
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::]:9464", ("::", 9464)),
        ("[10.0.0.1]:9464", ("10.0.0.1", 9464)),
        ("node:65535", ("node", 65535)),
    ],
)
def test_addresses(text: str, host_and_port: tuple[str, int]) -> None:
    assert address(text) == host_and_port


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (size, ""), (size, "many"), (size, "-1"), (size, "0"), (size, "1iB"), (size, "1e9"), (size, "0.1"),
        (seconds, ""), (seconds, "0"), (seconds, "-5"), (seconds, "1w"), (seconds, "soon"), (seconds, "nan"),
        (address, "9464"), (address, ":"), (address, ":x"), (address, "::1:9464"), (address, ":65536"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(function: Callable[[str], Any], text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write|expected|less|no time at all"):
        function(text)
