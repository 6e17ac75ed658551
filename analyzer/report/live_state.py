"""What a person has chosen on the live screen: order, filter, selection; keys in, state out, nothing drawn here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from analyzer.report.answers import VERDICT_ORDER
from analyzer.report.live_changes import answers_of
from analyzer.report.live_view import LiveChannel, LiveFinding, LiveView, Moment
from analyzer.report.schema_document import SEVERITIES

Pane = Literal["channels", "findings"]
PANES: Final[tuple[Pane, Pane]] = ("channels", "findings")

CHANNEL_ORDERS: Final[tuple[tuple[str, Callable[[LiveChannel], Any]], ...]] = (
    ("verdict", lambda c: (VERDICT_ORDER.index(c.verdict), not c.core, c.id)),
    ("rate", lambda c: (-c.octets_per_s, c.id)),
    ("connections", lambda c: (-c.connections, c.id)),
    ("octets", lambda c: (-c.octets, c.id)),
    ("name", lambda c: c.title),
)
FINDING_ORDERS: Final[tuple[tuple[str, Callable[[LiveFinding], Any]], ...]] = (
    ("severity", lambda f: (bool(f.suppressed), SEVERITIES.index(f.severity), f.code, f.identity)),
    ("newest", lambda f: (-f.first_seen_ns, f.identity)),
    ("connections", lambda f: (-f.connections, f.identity)),
    ("code", lambda f: f.identity),
)
ORDERS: Final[dict[Pane, tuple[str, ...]]] = {
    "channels": tuple(name for name, _ in CHANNEL_ORDERS),
    "findings": tuple(name for name, _ in FINDING_ORDERS),
}
_MAX_FILTER: Final = 60
_PAGE: Final = 10


@dataclass
class ScreenState:
    """The state of one screen.

    Attributes
    ----------
    focus : Pane
        Where the selection moves.
    order : dict of Pane to int
        Rows of `CHANNEL_ORDERS` and `FINDING_ORDERS`.
    filter : str
        Text that is looked for, in any case.
    typing : str or None
        A filter being typed.
    selected : dict of Pane to str
        Identity of what was selected, empty before; what is not shown any more is replaced by its neighbour.
    opened, helping : bool
        The selected one is shown whole; the keys are explained.
    scroll : int
        Lines of what is shown whole that are above the screen.
    frozen : Moment or None
        Paused at this moment.
    quit : bool
    """

    focus: Pane = "findings"
    order: dict[Pane, int] = field(default_factory=lambda: {"channels": 0, "findings": 0})
    filter: str = ""
    typing: str | None = None
    selected: dict[Pane, str] = field(default_factory=lambda: {"channels": "", "findings": ""})
    opened: bool = False
    helping: bool = False
    scroll: int = 0
    frozen: Moment | None = None
    quit: bool = False
    _places: dict[Pane, int] = field(default_factory=lambda: {"channels": 0, "findings": 0})

    def shown(self, moment: Moment) -> Moment:
        """Return the moment to draw: the paused one with the capture's present health, or this one."""
        return moment if self.frozen is None else Moment(self.frozen.view, moment.health)

    def channels(self, view: LiveView) -> list[LiveChannel]:
        """Return the channels that pass the filter, in the chosen order."""
        passing = [channel for channel in view.channels if self._passes(_channel_words(channel))]
        return sorted(passing, key=CHANNEL_ORDERS[self.order["channels"]][1])

    def findings(self, view: LiveView) -> list[LiveFinding]:
        """Return the findings that pass the filter, in the chosen order."""
        passing = [finding for finding in view.findings if self._passes(_finding_words(finding))]
        return sorted(passing, key=FINDING_ORDERS[self.order["findings"]][1])

    def _passes(self, words: Sequence[str]) -> bool:
        text = self.filter if self.typing is None else self.typing
        return text.lower() in "\n".join(words).lower()

    def place(self, pane: Pane, identities: Sequence[str]) -> int:
        """Return the row of the selected one among `identities`, choosing one where it is gone; -1 for none."""
        if not identities:
            return -1
        if not self.selected[pane]:
            # Until somebody moves it, the selection is the first row, whatever comes to stand there.
            return 0
        if self.selected[pane] in identities:
            row = identities.index(self.selected[pane])
        else:
            row = min(self._places[pane], len(identities) - 1)
            # What was open is gone: nobody should read on in another without having asked for it.
            self.opened = self.opened and pane != self.focus
            self.selected[pane] = identities[row]
        self._places[pane] = row
        return row

    # ------------------------------------------------------------------------------------------- keys

    def press(self, key: str, moment: Moment) -> None:
        """Take one key: a character, or the name of one (``up``, ``enter``, ``escape`` ...)."""
        if self.typing is not None:
            self._type(key)
        elif self.helping:
            self.helping = False
            self.quit = key == "q"
        elif key == "q":
            self.quit = True
        elif key == "?":
            self.helping = True
        elif key == "p":
            self.frozen = moment if self.frozen is None else None
        elif self.opened:
            self._read_on(key)
        elif key == "/":
            self.typing = ""
        elif key == "escape":
            self.filter = ""
        elif key == "tab":
            self.focus = PANES[1 - PANES.index(self.focus)]
        elif key in ("s", "S"):
            count = len(ORDERS[self.focus])
            self.order[self.focus] = (self.order[self.focus] + (1 if key == "s" else -1)) % count
        else:
            self._move(key, self.shown(moment).view)

    def _type(self, key: str) -> None:
        typed = self.typing or ""
        if key == "enter":
            self.filter, self.typing = typed, None
        elif key == "escape":
            self.typing = None
        elif key == "backspace":
            self.typing = typed[:-1]
        elif len(key) == 1 and key.isprintable() and len(typed) < _MAX_FILTER:
            self.typing = typed + key

    def _read_on(self, key: str) -> None:
        steps = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": _PAGE, " ": _PAGE, "pageup": -_PAGE}
        if key in ("escape", "enter", "backspace"):
            self.opened = False
        elif key in ("home", "g"):
            self.scroll = 0
        elif key in steps:
            self.scroll = max(0, self.scroll + steps[key])

    def _move(self, key: str, view: LiveView) -> None:
        identities = self.identities(view)
        row = self.place(self.focus, identities)
        if row < 0:
            return
        last = len(identities) - 1
        steps = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": _PAGE, "pageup": -_PAGE}
        if key == "enter":
            self._select(identities, row)
            self.opened, self.scroll = True, 0
        elif key in steps:
            self._select(identities, min(max(row + steps[key], 0), last))
        elif key in ("home", "g"):
            self._select(identities, 0)
        elif key in ("end", "G"):
            self._select(identities, last)

    def _select(self, identities: Sequence[str], row: int) -> None:
        self.selected[self.focus], self._places[self.focus] = identities[row], row

    def identities(self, view: LiveView) -> list[str]:
        """Return what can be selected in the pane that has the focus."""
        if self.focus == "channels":
            return [channel.id for channel in self.channels(view)]
        return [finding.identity for finding in self.findings(view)]


def _channel_words(channel: LiveChannel) -> list[str]:
    answers = [word for value, grade, _, _ in answers_of(channel).values() for word in (value, grade)]
    return [channel.id, channel.title, channel.verdict, *answers, *channel.clients, *channel.servers]


def _finding_words(finding: LiveFinding) -> list[str]:
    return [
        *(finding.code, finding.name, finding.title, finding.severity, finding.grade),
        *(finding.channel, finding.sentence, *finding.hosts),
    ]
