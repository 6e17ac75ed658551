"""The live screen in ``docs/live.md``: a recording as a terminal of 100 by 24 shows it after two seconds."""

from __future__ import annotations

import io
from typing import Final

from rich.console import Console

from analyzer.capture.source import open_capture
from analyzer.report.live_screen import draw
from analyzer.report.live_state import ScreenState
from analyzer.report.live_view import LiveHealth, Moment
from analyzer.session import LiveSession
from tests.conftest import LAB

RECORDING: Final = LAB / "05-proxy-cleartext.pcap"
LIVE: Final = LAB.parent / "docs" / "live.md"
_BEGIN: Final = "<!-- BEGIN generated: screen -->\n"
_END: Final = "<!-- END generated: screen -->"
_START_NS: Final = 1_795_428_000 * 10**9


def drawn() -> str:
    """The screen as text, without the blanks at the ends of lines."""
    session = LiveSession()
    session.tick(_START_NS)
    with open_capture(str(RECORDING)) as reader:
        for chunk in reader:
            session.add(chunk)
    view = session.tick(_START_NS + 2 * 10**9)
    health = LiveHealth("eth0", "AF_PACKET ring", 2.0, view.frames, 0, 0.041)
    console = Console(file=io.StringIO(), width=100, height=24)
    lines = [line.plain.rstrip() for line in draw(Moment(view, health), ScreenState(), console)]
    return "\n".join(lines) + "\n"


def generated_live(text: str) -> str:
    """``docs/live.md`` with the screen made anew."""
    before, rest = text.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    return f"{before}{_BEGIN}```text\n{drawn()}```\n{_END}{after}"
