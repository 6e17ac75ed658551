"""Connections leave memory, and what is said of the cluster stays the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from analyzer.report.schema_document import Document
from analyzer.session import Ageing, LiveSession, archive
from tests.builders import Conversation, chunk
from tests.conftest import all_lab_captures
from tests.unit.session.feeding import from_file, live
from tests.unit.session.test_ageing import BEGIN, REQUEST, Watched, http

RECORDINGS = [path for path in all_lab_captures() if path.stat().st_size > 100]
CROWDED = [path for path in RECORDINGS if path.stem in ("08b-etcd-cleartext", "14-mixed-node.pcap", "08-etcd-mtls")]


def eager(retain: int, stand_ins: int = 5_000, most: int = 100_000) -> LiveSession:
    """A session that lets go of connections as soon as they are closed."""
    times = {"closed_s": 0.01, "half_closed_s": 2.0, "unanswered_s": 2.0, "udp_s": 2.0, "udp_stream_s": 10.0}
    return LiveSession(ageing=Ageing(**times, retain=retain, stand_ins=stand_ins, most=most))


def of_channels(document: Document) -> dict[str, dict[str, object]]:
    """Everything said of each channel but how many second sightings there were."""
    return {
        str(row["id"]): {name: said for name, said in row.items() if name != "legs"} for row in document["channels"]
    }


def traffic(document: Document) -> dict[str, object]:
    """Traffic over time; events are those of the connections in the table."""
    return {name: said for name, said in document["timeline"].items() if not name.startswith("event")}


def totals(document: Document) -> tuple[int, int, int]:
    """Packets in flows by the ledger; by the table and what aged out; connections likewise."""
    data, gone = document["connections"]["data"], document["aged_out"]
    connections = sum(leg < 0 for leg in data["leg_of"]) + gone["connections"]
    return document["ledger"]["packets_in_flows"], sum(data["packets"]) + gone["packets"], connections


@pytest.mark.parametrize("retain", [0, 5])
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_forgetting_changes_nothing_that_is_said(path: Path, retain: int) -> None:
    whole = from_file(path)
    seen, _ = live(path, eager(retain), most=400 if path.stat().st_size < 3_000_000 else 6000)

    assert of_channels(seen) == of_channels(whole)
    assert [(f["id"], f["grade"]) for f in seen["findings"]] == [(f["id"], f["grade"]) for f in whole["findings"]]
    assert [rule["counts"] for rule in seen["rules"]] == [rule["counts"] for rule in whole["rules"]]
    assert seen["summary"] == whole["summary"]
    assert [e["roles"] for e in seen["endpoints"]] == [e["roles"] for e in whole["endpoints"]]
    assert seen["quality"]["shares"] == whole["quality"]["shares"]
    assert seen["ledger"]["balanced"]
    assert traffic(seen) == traffic(whole)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_what_is_set_aside_is_in_the_report_as_if_it_had_been_looked_at(path: Path) -> None:
    seen, views = live(path, eager(10_000), seed=2, most=400 if path.stat().st_size < 3_000_000 else 6000)

    assert seen == from_file(path)
    shown = {row.id: (row.verdict, row.connections, row.packets, row.octets) for row in views[-1].channels}
    told = {row["id"]: (row["verdict"], row["connections"], row["packets"], row["octets"]) for row in seen["channels"]}
    assert shown == told


def test_the_lab_has_connections_that_leave() -> None:
    """Or the tests here would show nothing."""
    left = {path.stem: live(path, eager(0))[0].get("aged_out") for path in CROWDED}

    assert all(gone and gone["connections"] > 50 and gone["without_stand_in"] == 0 for gone in left.values())


@pytest.mark.parametrize("path", CROWDED, ids=lambda path: path.stem)
def test_with_too_few_stand_ins_every_finding_and_answer_keeps_one(path: Path) -> None:
    whole = from_file(path)
    seen, _ = live(path, eager(0, stand_ins=4))

    assert seen["aged_out"]["without_stand_in"] > 0
    packets, counted, connections = totals(seen)
    assert counted == packets == whole["ledger"]["packets_in_flows"]
    assert connections == whole["summary"]["connections"]
    assert seen["ledger"]["balanced"]
    worse = {"sound": 0, "informational": 0, "undecidable": 1, "at-risk": 2}
    before, after = of_channels(whole), of_channels(seen)
    assert all(worse[str(after[name]["verdict"])] >= worse[str(said["verdict"])] for name, said in before.items())


@pytest.mark.parametrize("path", CROWDED, ids=lambda path: path.stem)
def test_what_is_shown_never_goes_down(path: Path) -> None:
    _, views = live(path, eager(0, stand_ins=4))

    for earlier, later in pairwise(views):
        assert later.aged_out >= earlier.aged_out
        assert sum(c.packets for c in later.channels) >= sum(c.packets for c in earlier.channels)
        assert sum(c.packets for c in later.channels) <= later.frames
        assert later.aged_out + later.retained_connections >= earlier.aged_out + earlier.retained_connections
        assert {f.identity: f.first_seen_ns for f in earlier.findings}.items() <= {
            f.identity: f.first_seen_ns for f in later.findings
        }.items()


def test_past_the_most_open_connections_leave_and_are_counted_as_early() -> None:
    (path,) = [path for path in RECORDINGS if path.stem == "14-mixed-node.pcap"]
    session = LiveSession(ageing=Ageing(retain=1000, stand_ins=8, most=40))
    seen, views = live(path, session, most=2000)

    assert max(view.retained_connections for view in views) < 249
    assert seen["aged_out"]["early"] > 0
    packets, counted, _ = totals(seen)
    assert packets == counted
    assert seen["ledger"]["balanced"]


@pytest.mark.parametrize("sources", [1100, 3000, 4500])
def test_past_the_most_kinds_leave_too_and_an_idle_session_is_left_alone(sources: int) -> None:
    """Every connection is of another kind, as those of a scan are, or of clients that come once."""
    watched = Watched(most=1000)
    talks = [Conversation(client=f"10.1.{n >> 8}.{n & 255}", dport=9100, isn=(n, n)).open() for n in range(sources)]
    for at in range(0, sources, 250):
        frames = [frame for talk in talks[at : at + 250] for frame in talk.send(0, REQUEST).close(1).frames]
        watched.feed(frames, at / 25)

    view = watched.look(1000)

    assert view.retained_connections <= 1000
    assert view.retained_connections + view.aged_out == sources
    assert watched.look(1001).concluded_ns == watched.look(1100).concluded_ns == watched.look(5000).concluded_ns
    assert sum(channel.connections for channel in view.channels) == sources


def test_where_nothing_can_leave_an_idle_session_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_telling", lambda _, rows: rows)
    watched = Watched(most=100)
    talks = [Conversation(client=f"10.1.0.{n}", dport=9100, isn=(n, n)).open() for n in range(120)]
    watched.feed([frame for talk in talks for frame in talk.send(0, REQUEST).frames], 0)
    watched.look(10)

    view = watched.look(20)

    assert view.retained_connections == 120
    assert watched.look(30).concluded_ns == watched.look(1000).concluded_ns == view.concluded_ns


def test_a_flood_between_two_conclusions_is_bounded_and_told() -> None:
    watched = Watched(most=1000)
    flood = [Conversation(client=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}").open().frames[0] for n in range(5000)]
    watched.session.add(chunk(flood))
    watched.frames += len(flood)

    view = watched.look(1)

    assert view.retained_connections <= 1000
    document = watched.report()
    assert document["ledger"]["left_out"]["packets"] == 5000 - 1500
    assert document["ledger"]["balanced"]
    assert any("--max-connections raises the limit" in note for note in document["quality"]["notes"])


def test_what_is_overrun_does_not_wait_until_the_last_conclusion_has_paid_off() -> None:
    watched = Watched(most=1000)
    watched.feed(http().frames, 0)
    watched.session._next_ns = BEGIN + 10**15  # as if the last one had taken long

    def sources(first: int, count: int) -> list[bytes]:
        talks = (
            Conversation(client=f"10.1.{n >> 8}.{n & 255}", dport=9100).open() for n in range(first, first + count)
        )
        return [frame for talk in talks for frame in talk.send(0, REQUEST).frames]

    watched.feed(sources(0, 1200), 10)
    assert watched.look(11).retained_connections == 1201

    assert watched.feed(sources(1200, 100), 12).retained_connections <= 1000
