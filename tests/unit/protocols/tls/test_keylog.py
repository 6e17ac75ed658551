"""Key logs: which lines count, and that nothing of them is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.tls.keylog import MASTER_SECRET, KeyLog

RANDOM, SECRET = "ab" * 32, "cd" * 48
LINE = f"CLIENT_RANDOM {RANDOM} {SECRET}"


def test_takes_the_lines_of_a_key_log() -> None:
    keys = KeyLog(f"# made by a test\r\n\r\n{LINE}\r\nEXPORTER_SECRET {RANDOM} {SECRET}\n".encode())

    assert len(keys) == 1
    assert bytes.fromhex(RANDOM) in keys
    assert keys.session(bytes.fromhex(RANDOM)) == {MASTER_SECRET: bytes.fromhex(SECRET)}
    assert keys.bad_lines == 0


@pytest.mark.parametrize(
    "line",
    [
        "CLIENT_RANDOM",
        f"CLIENT_RANDOM {RANDOM[:-2]} {SECRET}x",
        f"CLIENT_RANDOM {RANDOM} {SECRET}0g",
        f"client_random {RANDOM} {SECRET}",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_counts_a_line_that_is_none(line: str) -> None:
    keys = KeyLog(f"{LINE}\n{line}\n".encode())

    assert (len(keys), keys.bad_lines, keys.first_bad_line) == (1, 1, 2)


def test_a_secret_of_odd_length_is_not_taken() -> None:
    assert len(KeyLog(f"CLIENT_RANDOM {RANDOM} {SECRET}0".encode())) == 0


@given(st.binary(max_size=300))
def test_reads_any_octets(octets: bytes) -> None:
    assert len(KeyLog(octets)) == 0


def test_shows_no_secret() -> None:
    keys = KeyLog(LINE.encode())

    assert "cd" not in repr(keys) + str(keys)
    assert RANDOM not in repr(keys)
