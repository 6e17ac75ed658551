"""The live screen as lines of text for any size of terminal: a header, the channels, the findings, the keys.

Nothing is said by colour alone, and nothing from the network reaches the terminal unescaped (`visible`). Every line is
cut to the width; there are never more lines than the height.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from analyzer.report.answers import VERDICT_ORDER
from analyzer.report.live_channels import SELECTED, ChannelTable, short, window
from analyzer.report.live_detail import channel_detail, finding_detail, help_text
from analyzer.report.live_state import ORDERS, Pane, ScreenState
from analyzer.report.live_view import LiveFinding, LiveHealth, LiveView, Moment
from analyzer.report.schema_document import SEVERITIES
from analyzer.report.terminal_style import (
    SEVERITY_STYLES,
    VERDICT_STYLES,
    duration_text,
)
from analyzer.report.text import visible

NEW_S: Final = 15.0
"""Seconds for which a finding is marked as new."""
_OLD_S: Final = 2.0
"""Age from which on verdicts are said to be so old."""
_RECORDED_S: Final = 86400.0
"""Lag from which on it is no lag: a recording is read."""
_LEAST_FINDINGS: Final = 4
_STANDARD_INPUT: Final = "standard input"


def draw(moment: Moment, state: ScreenState, console: Console) -> list[Text]:
    """Return the lines of the screen, as many as the console is high, each cut to its width.

    Parameters
    ----------
    moment : Moment
        The present; where the state is paused, the paused moment is drawn.
    state : ScreenState
        Its selection is moved where what was selected is gone.
    console : Console
        Its size and encoding decide the layout.
    """
    width, height = console.size
    shown = state.shown(moment)
    header = _header(shown, state)
    room = max(0, height - len(header) - 1)
    if state.helping:
        body = _scrolled(help_text(), state, console, room)
    elif state.opened and (whole := _opened(shown.view, state)) is not None:
        body = _scrolled(whole, state, console, room)
    else:
        body = _panes(shown.view, state, console, room)
    lines = [*header, *body[:room], *[Text()] * (room - len(body))]
    lines = [*lines[: height - 1], _keys(state)] if height > 1 else lines[:1]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis" if console.encoding.lower().startswith("utf") else "crop")
    return lines


# ---------------------------------------------------------------------------------------------- header


def _header(moment: Moment, state: ScreenState) -> list[Text]:
    view, health = moment.view, moment.health
    name = _STANDARD_INPUT if health.name == "-" else visible(health.name)
    first = Text.assemble(("planewire live", "bold"), "  ", (name, "bold"), f"  {clock(health.running_s)}")
    if state.frozen is not None:
        first.append("  PAUSED", "bold yellow")
    if health.how not in (_STANDARD_INPUT, health.name):
        first.append(f"  {visible(health.how)}", "dim")
    second = Text(f"{view.frames:,} packets  {_rates(view.packets_per_s, view.octets_per_s)}  ")
    dropped = "?" if health.dropped is None else f"{health.dropped:,}"
    second.append(f"dropped {dropped}", "bold red" if health.dropped else "")
    second.append(f"  {_lag(health)}")
    third = Text(f"connections: {view.open_connections:,} open, {view.retained_connections:,} held, ")
    third.append(f"{view.aged_out:,} aged out")
    age_s = (view.time_ns - view.concluded_ns) / 1e9
    if view.concluded_ns and age_s >= _OLD_S and view.packets_per_s >= 1:
        third.append(f"  verdicts {duration_text(age_s)} old", "yellow")
    if health.writing:
        third.append(f"  writing {visible(health.writing)}", "dim")
    lines = [first, second, third]
    if health.problem:
        lines.append(Text(visible(health.problem), style="bold red"))
    return lines


def clock(seconds: float) -> str:
    """Return a running time: ``00:01:23``, with days where there are some."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {text}" if days else text


def _lag(health: LiveHealth) -> str:
    return f"lag {duration_text(max(0.0, health.lag_s))}" if health.lag_s < _RECORDED_S else "a recording"


def _rates(packets: float, octets: float) -> str:
    return f"{short(packets)} packets/s {short(octets)}B/s"


# ----------------------------------------------------------------------------------------------- panes


def _panes(view: LiveView, state: ScreenState, console: Console, room: int) -> list[Text]:
    channels, findings = state.channels(view), state.findings(view)
    wanted = 1 + max(1, len(findings))
    # Who has the focus gets what it needs, the other one at least its first lines.
    least = min(wanted, _LEAST_FINDINGS if state.focus == "channels" else max(_LEAST_FINDINGS, room // 2))
    place = state.place("channels", [channel.id for channel in channels])
    table = ChannelTable(channels, console, max(0, room - least - 1))
    shown = window(len(channels), table.most, place)
    top = [_title("Channels", "channels", state, shown, len(channels), len(view.channels))]
    for verdict in VERDICT_ORDER:
        count = sum(channel.verdict == verdict for channel in channels)
        if count:
            top[0].append(f"  {count} {verdict}", VERDICT_STYLES[verdict])
    top += table.lines(shown, place if state.focus == "channels" else -1)
    if not channels:
        top.append(Text("  nothing yet" if not view.channels else "  none matches", style="dim"))
    if len(top) + wanted < room:
        top.append(Text())
    return [*top, *_finding_pane(view, findings, state, room - len(top))]


def _title(name: str, pane: Pane, state: ScreenState, shown: range, count: int, all_of_them: int) -> Text:
    part = f" {shown.start + 1}-{shown.stop} of {count}" if len(shown) < count else f" {count}"
    text = Text.assemble((name, "bold underline" if state.focus == pane else "bold"), part)
    if count < all_of_them:
        text.append(f" of {all_of_them} match {visible(state.filter if state.typing is None else state.typing)!r}")
    text.append(f"  by {ORDERS[pane][state.order[pane]]}", "dim")
    return text


def _finding_pane(view: LiveView, findings: Sequence[LiveFinding], state: ScreenState, high: int) -> list[Text]:
    row = state.place("findings", [finding.identity for finding in findings])
    shown = window(len(findings), high - 1, row)
    title = _title("Findings", "findings", state, shown, len(findings), len(view.findings))
    for severity in SEVERITIES:
        count = sum(f.severity == severity and not f.suppressed for f in view.findings)
        if count:
            title.append(f"  {count} {severity}", SEVERITY_STYLES[severity])
    titles = {channel.id: channel.title for channel in view.channels}
    lines = [title]
    for number in shown:
        finding = findings[number]
        line = _finding_row(finding, titles.get(finding.channel, finding.channel), view.time_ns)
        if number == row and state.focus == "findings":
            line.stylize(SELECTED)
            line = Text.assemble((">", "bold"), line[1:])
        lines.append(line)
    if not findings:
        lines.append(Text("  none yet" if not view.findings else "  none matches", style="dim"))
    return lines


def _finding_row(finding: LiveFinding, channel: str, now_ns: int) -> Text:
    age_s = max(0.0, (now_ns - finding.first_seen_ns) / 1e9)
    new = age_s < NEW_S
    style = "dim" if finding.suppressed else SEVERITY_STYLES[finding.severity]
    line = Text("  ")
    line.append(f"{finding.severity.upper():8}", style)
    line.append(f" {finding.code} ")
    if new:
        line.append("NEW ", "bold reverse")
    if finding.suppressed:
        line.append("SUPPRESSED ", "dim")
    # The channel first: one rule often finds several, and a narrow line ends early.
    line.append(visible(channel), "" if finding.suppressed else "bold").append(f": {visible(finding.title)}")
    line.append(f"; {finding.connections:,} conn., {finding.grade}, {duration_text(age_s)} ago", "dim")
    return line


# ---------------------------------------------------------------------------------------- shown whole


def _opened(view: LiveView, state: ScreenState) -> Text | None:
    """What the selected one is, in full; None where it is gone."""
    row = state.place(state.focus, state.identities(view))
    if row < 0 or not state.opened:
        state.opened = False
        return None
    if state.focus == "channels":
        return channel_detail(state.channels(view)[row])
    return finding_detail(state.findings(view)[row], view)


def _scrolled(text: Text, state: ScreenState, console: Console, room: int) -> list[Text]:
    lines = list(text.wrap(console, max(1, console.width)))
    state.scroll = min(state.scroll, max(0, len(lines) - room))
    return lines[state.scroll : state.scroll + room]


def _keys(state: ScreenState) -> Text:
    if state.typing is not None:
        return Text.assemble(("/", "bold"), visible(state.typing), ("_", "blink"), ("  Enter: keep  Esc: drop", "dim"))
    if state.helping:
        keys = [("any key", "back")]
    elif state.opened:
        keys = [("Esc", "back"), ("j k", "scroll"), ("q", "quit")]
    else:
        keys = [("q", "quit"), ("?", "help"), ("j k", "select"), ("Enter", "open"), ("Tab", "other list")]
        keys += [("s", "sort"), ("/", "filter"), ("p", "go on" if state.frozen else "pause")]
    line = Text()
    if state.filter and not state.opened and not state.helping:
        line.append(f"filter: {visible(state.filter)} (Esc: none)  ", "yellow")
    for key, what in keys:
        line.append(key, "bold").append(f" {what}  ", "dim")
    return line
