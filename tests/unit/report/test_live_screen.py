"""The live screen: any size, nothing wider, nothing higher, nothing that acts on a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from analyzer.report.live_screen import clock, draw
from analyzer.report.live_state import ScreenState
from analyzer.report.live_view import Moment
from tests.document_example import HOSTILE
from tests.live_example import START_NS, channel, finding, moment

MANY = moment(
    channel(),
    channel("node-to-apiserver", verdict="sound"),
    channel("apiserver-to-etcd", verdict="undecidable"),
    channel("ssh", verdict="informational", core=False),
    *(channel(f"workload-{n}", verdict="undecidable") for n in range(6)),
    finding(),
    finding("PW104", severity="critical", first_seen_ns=START_NS + 55 * 10**9),
    *(finding(f"PW3{n:02}", severity="medium") for n in range(12)),
    finding("PW901", severity="info", suppressed="known"),
)
HOSTILE_ONE = moment(
    *(channel(f"c{n}", title=text, servers=(text,)) for n, text in enumerate(HOSTILE)),
    *(finding(f"PW1{n:02}", title=text, sentence=text, hosts=(text,), filter=text) for n, text in enumerate(HOSTILE)),
    health={"name": HOSTILE[2], "how": HOSTILE[3], "problem": HOSTILE[6], "writing": HOSTILE[2]},
)
KEYS = ("j", "k", "enter", "escape", "tab", "s", "S", "/", "p", "?", "e", "G", "g", "pagedown", "backspace", " ")


def lines(now: Moment, width: int, height: int, *keys: str, encoding: str = "utf-8") -> list[str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=out, width=width, height=height)
    state = ScreenState()
    for key in keys:
        state.press(key, now)
    return [line.plain for line in draw(now, state, console)]


@given(
    width=st.integers(1, 240),
    height=st.integers(1, 60),
    keys=st.lists(st.sampled_from(KEYS), max_size=12),
    now=st.sampled_from([MANY, HOSTILE_ONE, moment()]),
    encoding=st.sampled_from(["utf-8", "ascii"]),
)
def test_it_fits_any_terminal_and_is_inert(
    width: int, height: int, keys: list[str], now: Moment, encoding: str
) -> None:
    drawn = lines(now, width, height, *keys, encoding=encoding)
    assert len(drawn) <= height
    for line in drawn:
        assert cell_len(line) <= width
        assert line.isprintable() or not line


@pytest.mark.parametrize("size", [(80, 24), (100, 24), (132, 30), (200, 60), (60, 20), (40, 16)])
def test_what_matters_is_there_at_every_usual_size(size: tuple[int, int]) -> None:
    text = "\n".join(lines(MANY, *size))
    for words in ("planewire live", "1,200 packets", "Channels", "Apiserver to kubelet", "Findings", "PW104", "NEW"):
        assert words in text
    assert text.index("PW104") < text.index("PW201")


def test_words_of_the_report_with_grades() -> None:
    text = "\n".join(lines(moment(channel(), finding()), 80, 24))
    assert "✗ at-risk" in text
    assert "encrypted ✓" in text
    assert "unverified ✗" in text
    assert "75% inferred" in text
    short = "\n".join(lines(MANY, 80, 24))
    assert "encrypted obs" in short
    assert "~presented inf" in short
    wide = "\n".join(lines(MANY, 200, 24))
    assert "presented ✓ 75% inferred" in wide
    assert "Packets/s" in wide


def test_drops_and_problems_are_seen() -> None:
    text = "\n".join(lines(moment(health={"dropped": 41, "problem": "disk full"}), 80, 24))
    assert "dropped 41" in text
    assert "disk full" in text


def test_an_old_verdict_is_said_to_be_old() -> None:
    assert "verdicts 5.0 s old" in lines(moment(concluded_ns=START_NS + 55 * 10**9), 80, 24)[2]
    assert "old" not in lines(moment(), 80, 24)[2]


def test_a_finding_opens_with_why_and_what() -> None:
    text = "\n".join(lines(MANY, 100, 60, "j", "enter"))
    for words in ("PW201", "Why it matters", "What changes it", "--kubelet-certificate-authority", "Evidence: 4 9 17",
                  "Display filter: tcp.port == 10250", "10.0.0.11 (node1)"):  # fmt: skip
        assert words in text


def test_a_channel_opens_with_its_answers() -> None:
    text = "\n".join(lines(MANY, 100, 60, "tab", "enter"))
    for words in ("6 presented, 2 undecidable", "6 inferred, 2 none", "10.0.0.10", "3 open", "By default"):
        assert words in text


def test_help_filter_and_pause_are_shown() -> None:
    assert any("next, previous order" in line for line in lines(MANY, 80, 24, "?"))
    assert lines(MANY, 80, 24, "/", "e", "t", "c")[-1].startswith("/etc")
    kept = lines(MANY, 120, 24, "/", "e", "t", "c", "d", "enter")
    assert "filter: etcd" in kept[-1]
    assert any("1 of 10 match 'etcd'" in line for line in kept)
    assert "PAUSED" in lines(MANY, 80, 24, "p")[0]


def test_standard_input_has_a_name() -> None:
    first = lines(moment(health={"name": "-", "how": "standard input"}), 80, 24)[0]
    assert first == "planewire live  standard input  00:01:23"


def test_a_recording_has_no_lag() -> None:
    assert "a recording" in lines(moment(health={"lag_s": 1e7}), 80, 24)[1]


def test_running_times() -> None:
    assert [clock(s) for s in (0, 83, 3600, 200_000)] == ["00:00:00", "00:01:23", "01:00:00", "2 d 07:33:20"]
