"""The channels of the live screen as a table, in the layout that fits: a line each, two lines each, or a short line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from analyzer.report.live_changes import answers_of
from analyzer.report.live_view import LiveChannel
from analyzer.report.schema_document import QUESTIONS
from analyzer.report.terminal_style import QUESTION_TITLES, VERDICT_STYLES, Dominant, answer_text, marks_for
from analyzer.report.text import visible

SELECTED: Final = "reverse"

Layout = Literal["wide", "tall", "short"]

_WIDE: Final = 132
"""Columns from which a channel fits on one line with everything."""
_THREE: Final = 64
"""Columns from which all three answers have a column of their own."""
_ONE: Final = 36
"""Columns from which one has."""
_CELL: Final[dict[Layout, int]] = {"wide": 26, "tall": 14, "short": 16}
_TITLE: Final = 42
"""Columns of verdict and title that the numbers of the wide layout leave free."""
_NUMBERS: Final[tuple[tuple[str, int, Callable[[LiveChannel], str]], ...]] = (
    ("Conn.", 7, lambda channel: f"{channel.connections:,}"),
    ("B/s", 7, lambda channel: short(channel.octets_per_s)),
    ("Open", 6, lambda channel: f"{channel.open:,}"),
    ("Packets/s", 9, lambda channel: short(channel.packets_per_s)),
)
"""Heading, width and text; the last ones go first where the room ends."""
_CONN: Final = 90
"""Columns from which the connections have a column of their own in the other layouts."""
_LEAST_TITLE: Final = 24
_HEADING_LINES: Final = 1
GRADE_WORDS: Final = {"observed": "obs", "inferred": "inf", "declared": "dec", "default": "def", "none": "-"}
"""Grades where there is no room for the word."""


class ChannelTable:
    """The table of some channels in so many lines.

    Parameters
    ----------
    channels : sequence of LiveChannel
        In the order of the screen.
    console : Console
    high : int
        Lines at most, the heading among them.

    Attributes
    ----------
    most : int
        Channels that fit.
    """

    def __init__(self, channels: Sequence[LiveChannel], console: Console, high: int) -> None:
        width = console.width
        self._channels: Final = channels
        self._marks: Final = marks_for(console)
        rows = max(0, high - _HEADING_LINES)
        self._layout: Final[Layout] = "wide" if width >= _WIDE else "tall" if 2 * len(channels) <= rows else "short"
        self.most: Final = rows // (2 if self._layout == "tall" else 1)
        self._columns: Final = list(QUESTIONS) if width >= _THREE else list(QUESTIONS)[:1] if width >= _ONE else []
        self._cell: Final = _CELL[self._layout]
        left = width - (self._cell + 1) * len(self._columns)
        self._numbers = []
        for name, size, text in _NUMBERS if self._layout == "wide" else _NUMBERS[:1] if width >= _CONN else ():
            least = _TITLE if self._layout == "wide" else _LEAST_TITLE
            if left - size - 1 >= least:
                self._numbers.append((name, size, text))
                left -= size + 1
        self._left: Final = max(1, left)

    def lines(self, shown: range, selected: int) -> list[Text]:
        """Return the heading and the rows `shown`, of which `selected` stands out."""
        heading = Text("Channel".ljust(self._left)[: self._left], style="bold dim")
        for question in self._columns:
            heading.append(f" {QUESTION_TITLES[question]:{self._cell}}")
        for name, size, _ in self._numbers:
            heading.append(f" {name:>{size}}")
        lines = [heading]
        for row in shown:
            made = self._tall(self._channels[row]) if self._layout == "tall" else [self._line(self._channels[row])]
            if row == selected:
                for line in made:
                    line.stylize(SELECTED)
            lines += made
        return lines

    def _line(self, channel: LiveChannel) -> Text:
        style = VERDICT_STYLES[channel.verdict]
        first = Text.assemble((f"{self._marks[channel.verdict]} ", style))
        if self._layout == "wide":
            first.append(f"{channel.verdict:14}", style)
        line = _padded(
            Text.assemble(first, (visible(channel.title), "" if self._layout == "wide" else style)), self._left
        )
        told = answers_of(channel)
        for question in self._columns:
            answer = self._short(told[question]) if self._layout == "short" else self._whole(told[question])
            line.append(" ").append_text(_padded(answer, self._cell))
        return self._numbered(line, channel)

    def _tall(self, channel: LiveChannel) -> list[Text]:
        style = VERDICT_STYLES[channel.verdict]
        first = _padded(Text(visible(channel.title)), self._left)
        second = Text.assemble("  ", (f"{self._marks[channel.verdict]} {channel.verdict}", style))
        if not self._numbers:
            second.append(f" {channel.connections:,} conn.")
        if channel.octets_per_s >= 1:
            second.append(f" {short(channel.octets_per_s)}B/s", "dim")
        second = _padded(second, self._left)
        told = answers_of(channel)
        for question in self._columns:
            answer, grade = answer_text(told[question], self._marks, "\n").split("\n")
            first.append(" ").append_text(_padded(answer, self._cell))
            second.append(" ").append_text(_padded(_brief(grade, told[question], self._cell), self._cell))
        return [self._numbered(first, channel), second]

    def _whole(self, answer: Dominant) -> Text:
        value, grade = answer_text(answer, self._marks, "\n").split("\n")
        return Text(" ").join([value, _brief(grade, answer, self._cell - cell_len(value.plain) - 1)])

    def _short(self, answer: Dominant) -> Text:
        value = answer_text(answer, self._marks, "\n").split("\n")[0]
        most = "~" if answer[2] < answer[3] else ""
        return Text.assemble((most + answer[0], value.style), (f" {GRADE_WORDS[answer[1]]}", "dim"))

    def _numbered(self, line: Text, channel: LiveChannel) -> Text:
        for _, size, text in self._numbers:
            line.append(f" {text(channel):>{size}}")
        return line


def _brief(grade: Text, answer: Dominant, room: int) -> Text:
    """The grade with the share of the answer; where the room is short, the share in percent."""
    if cell_len(grade.plain) <= room or answer[2] == answer[3]:
        return grade
    percent = max(1, min(99, round(100 * answer[2] / max(1, answer[3]))))
    return Text(f"{percent}% {answer[1]}", style="dim")


def _padded(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis", pad=True)
    return text


def window(count: int, size: int, row: int) -> range:
    """The rows that are shown of so many, around the selected one."""
    size = max(0, min(size, count))
    start = min(max(0, row - size // 2), count - size) if row >= size else 0
    return range(start, start + size)


def short(value: float) -> str:
    """Return a number in few characters: ``999``, ``1.2 k``, ``34 M``."""
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5 or unit == "T":
            break
        value /= 1000
    return f"{value:.1f}{unit}" if unit and value < 9.95 else f"{value:.0f}{unit}"
