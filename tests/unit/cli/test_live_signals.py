"""Signals as flags: which are taken over, and which one ends the program at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from analyzer.cli.live_signals import Signals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_that_asks_for_the_end_is_final(first: int, second: int) -> None:
    signals = Signals()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with signals.installed(rotates=False, screen=False):
        send(first)
        assert signals.ended_by == ("interrupt" if first == signal.SIGINT else "termination")
        with pytest.raises(SystemExit) as raised:
            send(second)
        assert raised.value.code == 128 + second


def test_a_hang_up_comes_twice_and_is_never_final() -> None:
    signals = Signals()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with signals.installed(rotates=False, screen=False):
        send(signal.SIGHUP)
        send(signal.SIGHUP)
        assert (signals.ended_by, signals.rotate) == ("termination", False)


def test_a_hang_up_that_is_to_be_ignored_is() -> None:
    signals = Signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.installed(rotates=False, screen=False):
        send(signal.SIGHUP)
        assert signals.ended_by is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_where_there_is_a_file_a_hang_up_starts_the_next(before: Any) -> None:
    signals = Signals()
    signal.signal(signal.SIGHUP, before)
    with signals.installed(rotates=True, screen=False):
        send(signal.SIGHUP)
        assert (signals.ended_by, signals.rotate) == (None, True)
    assert signal.getsignal(signal.SIGHUP) is before
