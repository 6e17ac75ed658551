"""Where a live run is shown: a screen on a terminal, lines anywhere else, or nowhere."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO
from typing import Protocol as TypingProtocol

from rich.console import Console, ConsoleDimensions
from rich.text import Text

from analyzer.cli.keyboard import Keyboard
from analyzer.report.live_changes import Changes
from analyzer.report.live_lines import Drops, as_json, as_text, change_line, note_line, start_line, summary_line
from analyzer.report.live_schema import EndedBy, LiveLine
from analyzer.report.live_screen import draw
from analyzer.report.live_state import ScreenState
from analyzer.report.live_view import LiveHealth, Moment

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"
"""The alternate screen, no cursor, empty (xterm's control sequences, DEC private modes 1049 and 25)."""
_LEAVE: Final = "\x1b[0m\x1b[?25h\x1b[?1049l"


_MAX_PROBLEMS: Final = 50
"""Problems that are told again once the screen is gone."""


class DisplayGone(Exception):
    """Nobody reads what is shown any more: a closed pipe, a terminal that was hung up."""


class Display(TypingProtocol):
    """What a run is shown on."""

    def begin(self, time_ns: int, health: LiveHealth) -> None:
        """Show that it begins."""

    def show(self, moment: Moment) -> None:
        """Show the present."""

    def note(self, time_ns: int, text: str) -> None:
        """Tell a problem."""

    def attend(self, moment: Moment) -> bool:
        """Look after what the user does; True where the run is to end."""

    def suspend(self) -> None:
        """Give the terminal back for a while."""

    def resume(self, moment: Moment) -> None:
        """Take it again, or draw it again in its new size."""

    def leave(self) -> None:
        """Give the terminal back for good."""

    def end(self, moment: Moment, ended_by: EndedBy, exit_status: int) -> None:
        """Say the last word, after the files have been written."""


class NoDisplay:
    """Shows nothing; problems go to standard error."""

    def begin(self, time_ns: int, health: LiveHealth) -> None:
        """See `Display`."""

    def show(self, moment: Moment) -> None:
        """See `Display`."""

    def note(self, time_ns: int, text: str) -> None:
        """See `Display`."""
        _complain(text)

    def attend(self, moment: Moment) -> bool:
        """See `Display`."""
        return False

    def suspend(self) -> None:
        """See `Display`."""

    def resume(self, moment: Moment) -> None:
        """See `Display`."""

    def leave(self) -> None:
        """See `Display`."""

    def end(self, moment: Moment, ended_by: EndedBy, exit_status: int) -> None:
        """See `Display`."""


class LinesDisplay(NoDisplay):
    """One line a change on standard output, each written out at once."""

    def __init__(self, *, json: bool) -> None:
        self._format: Final = as_json if json else as_text
        self._changes: Final = Changes()
        self._drops: Final = Drops()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")

    def begin(self, time_ns: int, health: LiveHealth) -> None:
        """See `Display`."""
        self._write(start_line(time_ns, health))

    def show(self, moment: Moment) -> None:
        """See `Display`."""
        for change in self._changes.since(moment.view):
            self._write(change_line(moment.view.time_ns, change))
        if (drops := self._drops.line(moment)) is not None:
            self._write(drops)

    def note(self, time_ns: int, text: str) -> None:
        """See `Display`."""
        self._write(note_line(time_ns, text))

    def end(self, moment: Moment, ended_by: EndedBy, exit_status: int) -> None:
        """See `Display`."""
        self.show(moment)
        self._write(summary_line(moment, ended_by, exit_status))

    def _write(self, line: LiveLine) -> None:
        try:
            print(self._format(line), flush=True)
        except OSError as error:
            _raise_if_gone(error)


class ScreenDisplay(NoDisplay):
    """The screen of a terminal. Only lines that changed are written; the terminal is left as it was found."""

    def __init__(self, *, no_color: bool) -> None:
        self._console: Final = Console(no_color=no_color or None, highlight=False)
        self._keyboard: Final = Keyboard()
        self._state: Final = ScreenState()
        self._drawn: list[Text] = []
        self._problems: deque[str] = deque(maxlen=_MAX_PROBLEMS)
        self._on = False

    def begin(self, time_ns: int, health: LiveHealth) -> None:
        """See `Display`."""
        self._keyboard.open()
        self._on = True
        self._write(_ENTER)

    def show(self, moment: Moment) -> None:
        """See `Display`."""
        with suppress(OSError):
            # Not what COLUMNS and LINES say: they are as old as the shell's last prompt.
            width, height = os.get_terminal_size(sys.stdout.fileno())
            if width and height:  # a terminal that nobody told its size says 0
                self._console.size = ConsoleDimensions(width, height)
        lines = draw(moment, self._state, self._console)
        pieces = []
        for row, line in enumerate(lines):
            if row >= len(self._drawn) or self._drawn[row] != line:
                pieces.append(f"\x1b[{row + 1};1H{self._rendered(line)}\x1b[K")
        if len(lines) < len(self._drawn):
            pieces.append("\x1b[J")
        self._drawn = lines
        if pieces:
            self._write("".join(pieces))

    def note(self, time_ns: int, text: str) -> None:
        """See `Display`. On the screen it stands in the header; it is told again when the screen is gone."""
        if self._on:
            self._problems.append(text)
        else:
            _complain(text)

    def attend(self, moment: Moment) -> bool:
        """See `Display`."""
        keys = self._keyboard.keys()
        for key in keys:
            self._state.press(key, moment)
        if keys and not self._state.quit:
            self.show(moment)
        return self._state.quit

    def suspend(self) -> None:
        """See `Display`."""
        if self._on:
            self._write(_LEAVE)
            self._keyboard.close()

    def resume(self, moment: Moment) -> None:
        """See `Display`."""
        if self._on:
            self._keyboard.close()
            self._keyboard.open()
            self._drawn = []
            self._write(_ENTER)
            self.show(moment)

    def leave(self) -> None:
        """See `Display`."""
        if self._on:
            self._on = False
            with suppress(DisplayGone):
                self._write(_LEAVE)
            self._keyboard.close()
            for text in dict.fromkeys(self._problems):
                _complain(text)

    def _rendered(self, line: Text) -> str:
        try:
            with self._console.capture() as captured:
                self._console.print(line, end="", soft_wrap=True)
        except OSError as error:  # capturing, rich flushes the terminal nevertheless
            _raise_if_gone(error)
        return captured.get()

    def _write(self, text: str) -> None:
        encoding = self._console.encoding
        try:
            # One character for one, so that lines keep their width where the terminal lacks some.
            self._console.file.write(text.encode(encoding, "replace").decode(encoding))
            self._console.file.flush()
        except OSError as error:
            _raise_if_gone(error)


def _complain(text: str) -> None:
    import click

    from analyzer.report.text import visible

    with suppress(OSError):  # the terminal is gone, and with it whoever could be told
        click.echo(f"planewire: {visible(text)}", err=True)


@contextmanager
def unread_is_no_error() -> Iterator[None]:
    """Say something, flushed at the end, that is lost where the reader, or the terminal, is gone."""
    with suppress(DisplayGone):
        try:
            yield
        except OSError as error:
            _raise_if_gone(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(DisplayGone):
            try:
                stream.flush()
            except OSError as error:
                _raise_if_gone(error, stream)


def _raise_if_gone(error: OSError, stream: TextIO | None = None) -> None:
    """Nobody reads a closed pipe, nor a terminal that was hung up (EIO); anything else is an error."""
    if error.errno not in (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF):
        raise error
    # What is left in the buffer must not be tried again when the interpreter ends: its status would be 120.
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())
    raise DisplayGone from error
