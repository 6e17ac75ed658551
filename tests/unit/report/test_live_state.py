"""Keys in, state out."""

from __future__ import annotations

from analyzer.report.live_state import CHANNEL_ORDERS, FINDING_ORDERS, ScreenState
from tests.live_example import START_NS, channel, finding, moment, view

CHANNELS = (
    channel("node-to-apiserver", verdict="sound", octets_per_s=9e6, connections=2, octets=10),
    channel("apiserver-to-kubelet", connections=50, octets=30),
    channel("apiserver-to-etcd", verdict="undecidable", octets=20, servers=("10.9.9.9",)),
)
FINDINGS = (
    finding("PW901", severity="info", first_seen_ns=START_NS + 3),
    finding("PW201", severity="high", first_seen_ns=START_NS + 1),
    finding("PW104", severity="critical", first_seen_ns=START_NS + 2, connections=1),
)
NOW = moment(*CHANNELS, *FINDINGS)


def press(state: ScreenState, *keys: str) -> ScreenState:
    for key in keys:
        state.press(key, NOW)
    return state


def ids(state: ScreenState) -> list[str]:
    return [c.id for c in state.channels(NOW.view)]


def codes(state: ScreenState) -> list[str]:
    return [f.code for f in state.findings(NOW.view)]


def test_orders_cycle_in_the_list_that_has_the_focus() -> None:
    state = ScreenState()
    seen = []
    for _ in FINDING_ORDERS:
        seen.append(codes(state))
        press(state, "s")
    assert seen == [
        ["PW104", "PW201", "PW901"], ["PW901", "PW104", "PW201"], ["PW201", "PW901", "PW104"],
        ["PW104", "PW201", "PW901"],
    ]  # fmt: skip
    assert state.order["findings"] == 0
    assert ids(state)[0] == "apiserver-to-kubelet"
    press(state, "tab")
    by = []
    for _ in CHANNEL_ORDERS:
        by.append(ids(state)[0])
        press(state, "s")
    assert by == [
        "apiserver-to-kubelet", "node-to-apiserver", "apiserver-to-kubelet", "apiserver-to-kubelet",
        "apiserver-to-etcd",
    ]  # fmt: skip
    press(state, "S")
    assert CHANNEL_ORDERS[state.order["channels"]][0] == "name"


def test_a_filter_is_typed_kept_and_dropped() -> None:
    state = press(ScreenState(), "/", "E", "T", "X", "backspace", "c")
    assert (state.typing, ids(state)) == ("ETc", ["apiserver-to-etcd"])
    press(state, "enter")
    assert (state.filter, state.typing) == ("ETc", None)
    press(state, "/", "q", "escape")
    assert (state.filter, state.quit) == ("ETc", False)
    press(state, "escape")
    assert len(ids(state)) == 3
    press(state, "/", *"10.9.9.9", "enter")
    assert ids(state) == ["apiserver-to-etcd"]
    assert codes(state) == []
    assert press(state, "down", "enter").opened is False


def test_selection_moves_stays_with_its_finding_and_opens() -> None:
    state = press(ScreenState(), "j", "down", "j", "k")
    assert state.selected["findings"] == "PW201/apiserver-to-kubelet"
    assert press(state, "G").selected["findings"].startswith("PW901")
    assert press(state, "g").selected["findings"].startswith("PW104")
    press(state, "j")
    later = moment(*CHANNELS, *FINDINGS, finding("PW103", severity="critical"))
    names = [f.identity for f in state.findings(later.view)]
    assert names[state.place("findings", names)].startswith("PW201")
    assert press(state, "enter").opened
    assert press(state, "down", " ").scroll == 11
    assert press(state, "g").scroll == 0
    assert not press(state, "escape").opened


def test_the_first_row_is_selected_until_somebody_moves() -> None:
    state = ScreenState()
    assert state.place("findings", ["b"]) == 0
    assert state.place("findings", ["a", "b"]) == 0
    assert state.selected["findings"] == ""


def test_what_was_open_and_went_is_closed() -> None:
    state = press(ScreenState(), "j", "enter")
    assert state.opened
    without = view(*CHANNELS, FINDINGS[0], FINDINGS[2])
    assert state.place("findings", state.identities(without)) == 1
    assert not state.opened


def test_pause_help_and_quit() -> None:
    state = press(ScreenState(), "p")
    later = moment(channel(), health={"dropped": 77})
    assert state.shown(later).view is NOW.view
    assert state.shown(later).health.dropped == 77
    assert press(state, "p").shown(later) is later
    assert press(state, "?").helping
    assert not press(state, "x").helping
    assert press(state, "q").quit
    assert press(ScreenState(), "?", "q").quit
    assert press(ScreenState(), "enter", "q").quit


def test_unknown_keys_do_nothing() -> None:
    assert press(ScreenState(), "left", "Z", "\u00e9", "end", "home", "pageup") == press(ScreenState(), "home")
