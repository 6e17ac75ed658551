"""What signals ask of a live run: flags that its loop looks at, so that nothing is cut off in the middle."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from analyzer.report.live_schema import EndedBy

_Handler = Callable[[int, FrameType | None], None]


class Signals:
    """Flags that are set by signals.

    Attributes
    ----------
    ended_by : EndedBy or None
        An interrupt or a termination was asked for; another one ends the program at once. A hang-up asks for the
        end as well, but never for an end at once: the terminal and the shell both send one when a session ends.
    rotate, resized, suspend : bool
        SIGHUP, SIGWINCH and SIGTSTP came; whoever acts on one clears it.
    """

    def __init__(self) -> None:
        self.ended_by: EndedBy | None = None
        self.rotate = self.resized = self.suspend = False

    @contextmanager
    def installed(self, *, rotates: bool, screen: bool) -> Iterator[None]:
        """Handle the signals inside this block.

        Parameters
        ----------
        rotates : bool
            There is a file to rotate; without one SIGHUP keeps its meaning, the end of a session, or none, where
            whoever started the program wants it to outlive that (nohup).
        screen : bool
            There is a screen, which a size or a stop concerns.
        """
        handlers: dict[int, _Handler] = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate}
        if hasattr(signal, "SIGHUP"):
            if rotates:
                handlers[signal.SIGHUP] = self._rotate
            elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                handlers[signal.SIGHUP] = self._hang_up
        if screen and hasattr(signal, "SIGWINCH"):
            handlers[signal.SIGWINCH] = self._resize
            handlers[signal.SIGTSTP] = self._stop
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop_here(self) -> None:
        """Do what SIGTSTP asked for: stop until the shell says to go on."""
        self.suspend = False
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here the process stands until SIGCONT.
        signal.signal(signal.SIGTSTP, self._stop)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self._end("interrupt", number)

    def _terminate(self, number: int, _frame: FrameType | None) -> None:
        self._end("termination", number)

    def _end(self, reason: EndedBy, number: int) -> None:
        if self.ended_by is not None:
            sys.exit(_STATUS + number)
        self.ended_by = reason

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self.ended_by = self.ended_by or "termination"

    def _rotate(self, _number: int, _frame: FrameType | None) -> None:
        self.rotate = True

    def _resize(self, _number: int, _frame: FrameType | None) -> None:
        self.resized = True

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.suspend = True


_STATUS: Final = 128
"""Exit status of a shell's child that a signal ended, less the signal's number."""
