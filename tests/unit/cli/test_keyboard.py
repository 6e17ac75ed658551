"""What terminals send, as keys."""

from __future__ import annotations

import os
import pty
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.cli.keyboard import Keyboard, decode


@pytest.mark.parametrize(
    ("octets", "keys"),
    [
        (b"jk?/", ["j", "k", "?", "/"]),
        (b"\r\n\t\x7f\x08", ["enter", "enter", "tab", "backspace", "backspace"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[A\x1b[B\x1bOA\x1bOB", ["up", "down", "up", "down"]),
        (b"\x1b[1;5A", ["up"]),
        (b"\x1b[5~\x1b[6~\x1b[1~\x1b[4~\x1b[H\x1b[F", ["pageup", "pagedown", "home", "end", "home", "end"]),
        (b"\x1b[5;2~", ["pageup"]),
        (b"\x1b[200~q", ["q"]),
        (b"\x1b\x1b[A", ["escape", "up"]),
        ("é€".encode(), ["é", "€"]),
        (b"\xff\xc3\xa9\x00\x01", ["é"]),
        (b"", []),
    ],
)
def test_keys(octets: bytes, keys: list[str]) -> None:
    assert decode(octets) == keys


@given(st.binary(max_size=60))
def test_whatever_comes_is_keys_that_print_or_have_a_name(octets: bytes) -> None:
    for key in decode(octets):
        assert key
        assert key.isprintable()


def test_the_terminal_is_given_back_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        before = termios.tcgetattr(slave)
        keyboard = Keyboard()
        keyboard.open()
        assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO)
        assert termios.tcgetattr(slave)[3] & termios.ISIG
        os.write(master, b"j\x1b[A")
        keys: list[str] = []
        while len(keys) < 2:
            keys += keyboard.keys()
        assert keys == ["j", "up"]
        keyboard.close()
        assert termios.tcgetattr(slave) == before
        assert keyboard.keys() == []
    os.close(master)
