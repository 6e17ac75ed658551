"""The report is the same for any number of processes, when one of them is killed, and when they have to give up."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import analysis, pipeline, traffic, workers
from analyzer.analysis import run
from analyzer.assembly import Reading
from analyzer.capture import ranges
from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.several import CaptureSet
from analyzer.pipeline import Limits, Pipeline
from analyzer.report.document import build_document
from analyzer.schema import I64, CaptureChunk, Traffic
from analyzer.team import Team
from analyzer.traffic import TrafficCounter
from analyzer.workers import can_fork
from tests.capture_builders import Frame, pcap_file
from tests.conftest import LAB

pytestmark = pytest.mark.skipif(not can_fork(), reason="this system makes no copies of processes")
CAPTURES = sorted(p for p in LAB.iterdir() if p.suffix in (".pcap", ".pcapng"))


@pytest.fixture(autouse=True)
def _teams_for_small_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "LEAST_SHARED", 0)
    monkeypatch.setattr(ranges, "TURN_OCTETS", 64 << 10)


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each team: whether it was given up."""
    ends: list[bool] = []
    together = workers.together

    def noted(processes: int, work: Callable[[Team], Any], shared_octets: int) -> list[Any]:
        ends.append(True)
        answers = together(processes, work, shared_octets)
        ends[-1] = False
        return answers

    monkeypatch.setattr(analysis, "together", noted)
    return ends


def analyse(paths: list[Path], limits: Limits, count: int) -> str:
    with open_captures([Source(str(path)) for path in paths]) as reader:
        document = build_document(run(reader, limits=limits, workers=count))
    return json.dumps(document)


@cache
def alone(path: Path) -> str:
    return analyse([path], Limits(), 1)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_any_number_of_workers_gives_the_same_document(path: Path, given_up: list[bool]) -> None:
    # Three rounds of settling on the way and one at the end.
    limits = Limits(epoch_frames=max(16, json.loads(alone(path))["ledger"]["frames"] // 4), settle_octets=0)
    for count in (2, 4, 8):
        assert analyse([path], limits, count) == alone(path), count
    assert given_up == [False] * 3


@pytest.mark.parametrize("name", ["27-fmt-packet-loss.pcap", "01-default-insecure-kubelet.pcap"])
@pytest.mark.parametrize("settle_octets", [1 << 12, 1 << 15, 1 << 17])
def test_what_is_held_together_says_when_connections_are_read(
    name: str, settle_octets: int, given_up: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = LAB / name
    limits = Limits(epoch_frames=32, settle_octets=settle_octets)
    rounds: list[int] = []
    settle = Pipeline._settle

    def noted(self: Pipeline) -> None:
        rounds.append(self.frames)
        settle(self)

    monkeypatch.setattr(Pipeline, "_settle", noted)
    expected = analyse([path], limits, 1)
    before, rounds[:] = [*rounds], []

    assert analyse([path], limits, 3) == expected
    assert rounds == before
    assert before
    assert given_up == [False]


def test_several_captures_do_too() -> None:
    chosen = [LAB / "05-proxy-cleartext.pcap", LAB / "10-tls12.pcap", LAB / "11-keylog-dsb.pcapng"]
    limits = Limits(epoch_frames=100, settle_octets=0)

    # More processes than recordings: each recording is read by a team of its own.
    assert analyse(chosen, limits, 7) == analyse(chosen, limits, 3) == analyse(chosen, limits, 1)


@given(st.lists(st.integers(0, 1 << 40), min_size=1), st.data())
def test_the_least_number_that_so_many_reach(numbers: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(numbers)))

    assert pipeline._reached_by(np.array(numbers), count, int) == sorted(numbers)[count - 1]


def test_a_rotated_recording_is_one(tmp_path: Path, given_up: list[bool]) -> None:
    # Given one recording in three files, cut where connections are under way
    octets = (LAB / "10-tls12.pcap").read_bytes()
    cuts = [24]
    at, number = 24, 0
    while at < len(octets):
        at += 16 + int.from_bytes(octets[at + 8 : at + 12], "little")
        number += 1
        if number % 60 == 0:
            cuts.append(at)
    cuts.append(len(octets))
    paths = []
    for i, (start, stop) in enumerate(pairwise(cuts)):
        paths.append(tmp_path / f"trace.pcap{i}")
        paths[-1].write_bytes(octets[:24] + octets[start:stop])
    assert len(paths) > 2
    limits = Limits(epoch_frames=100, settle_octets=0)

    expected = analyse(paths, limits, 1)

    assert analyse(paths, limits, 3) == expected
    assert given_up == [False]


@pytest.mark.parametrize(
    ("name", "budget"), [("27-fmt-packet-loss.pcap", 1 << 14), ("12c-overlay-geneve.pcap", 1 << 12)]
)
def test_where_memory_runs_short_the_longest_silent_of_all_are_read(
    name: str, budget: int, given_up: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a budget so small that connections are read before they are complete
    limits = Limits(epoch_frames=32, settle_octets=budget // 4, heads_budget=budget)
    closed: list[list[int]] = []
    close = Pipeline._close

    def noted(self: Pipeline, flows: I64) -> None:
        first = self._total(int(self.flows.state.order[flows].sum()))
        closed.append([self.frames, self._total(flows.shape[0]), first])
        close(self, flows)

    monkeypatch.setattr(Pipeline, "_close", noted)
    expected = analyse([LAB / name], limits, 1)
    before, closed[:] = [*closed], []

    for count in (2, 4, 8):
        assert analyse([LAB / name], limits, count) == expected
        assert closed == before
        closed.clear()
    assert len(before) > 1
    assert given_up == [False] * 3


@pytest.mark.parametrize("epoch_frames", [50, 1 << 16])
def test_where_flows_are_too_many_one_process_reads_it(epoch_frames: int, given_up: list[bool]) -> None:
    # Given more flows than are kept, in all but not of any process alone; noticed on the way, or at the end
    path = LAB / "10-tls12.pcap"
    count = len(json.loads(analyse([path], Limits(), 1))["connections"]["data"]["client_ip"])
    limits = Limits(max_flows=count - 1, epoch_frames=epoch_frames)

    assert analyse([path], limits, 3) == analyse([path], limits, 1)
    assert given_up == [True]


def test_connections_of_one_process_alone_are_enough(given_up: list[bool], tmp_path: Path) -> None:
    # Given fewer connections than processes
    path = tmp_path / "one.pcap"
    octets = bytes.fromhex("02 00 00 00 00 02 02 00 00 00 00 01 0800") + bytes.fromhex(
        "45 00 00 28 00 01 00 00 40 06 00 00 0a000001 0a000002 9c40 01bb 00000001 00000000 50 02 ffff 0000 0000"
    )
    path.write_bytes(pcap_file([Frame(octets, 1_700_000_000_000_000_000)]))

    assert analyse([path], Limits(), 8) == analyse([path], Limits(), 1)
    assert given_up == [False]


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_killed_worker_costs_time_only(when: str, given_up: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a process that is killed in the middle of its work, or when it hands over what it has read
    path = LAB / "10-tls12.pcap"
    limits = Limits(epoch_frames=100, settle_octets=0)
    expected = analyse([path], limits, 1)
    add, among = Pipeline.add, Reading.among

    def fatal_add(self: Pipeline, chunk: CaptureChunk, comments: Any = ()) -> None:
        if when == "early" and self.team is not None and self.team.rank == 1 and self.frames:
            os.kill(os.getpid(), signal.SIGKILL)
        add(self, chunk, comments)

    def fatal_among(self: Reading, share: int, shares: int) -> Reading:
        if when == "late" and share == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return among(self, share, shares)

    monkeypatch.setattr(Pipeline, "add", fatal_add)
    monkeypatch.setattr(Reading, "among", fatal_among)

    assert analyse([path], limits, 3) == expected
    assert given_up == [True]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_interrupt_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    path = LAB / "10-tls12.pcap"

    def interrupted(octets: int, frames: int) -> None:
        raise KeyboardInterrupt

    with open_captures([Source(str(path))]) as reader, pytest.raises(KeyboardInterrupt):
        run(reader, workers=4, progress=interrupted)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_file_that_changes_meanwhile_is_read_by_one_process(
    tmp_path: Path, given_up: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file that has grown when the second process opens it, and not when the first one does
    octets = (LAB / "10-tls12.pcap").read_bytes()
    path = tmp_path / "grows.pcap"
    path.write_bytes(octets)
    expected = analyse([path], Limits(), 1)
    length = 24 + 16 + int.from_bytes(octets[32:36], "little")
    path.write_bytes(octets[:length])
    read = analysis.Work._read_frames

    def grown(self: analysis.Work, reader: Any, number: int, progress: Any, team: Team | None = None) -> Any:
        if team is not None and team.rank == 0:
            path.write_bytes(octets)
        return read(self, reader, number, progress, team)

    read_together, parent = analysis.Work._read_together, os.getpid()

    def later(self: analysis.Work, again: Callable[[], CaptureSet], *rest: Any) -> Any:
        def opened() -> CaptureSet:
            while os.getpid() != parent and path.stat().st_size < len(octets):
                time.sleep(0.01)
            return again()

        return read_together(self, opened, *rest)

    monkeypatch.setattr(analysis.Work, "_read_frames", grown)
    monkeypatch.setattr(analysis.Work, "_read_together", later)

    assert analyse([path], Limits(), 2) == expected
    assert given_up == [True]


def test_a_damaged_pcapng_file_is_read_as_far_by_any_number(tmp_path: Path, given_up: list[bool]) -> None:
    octets = bytearray((LAB / "11-keylog-dsb.pcapng").read_bytes())
    ends: list[int] = []
    while (ends[-1] if ends else 0) < len(octets):
        at = ends[-1] if ends else 0
        ends.append(at + int.from_bytes(octets[at + 4 : at + 8], "little"))
    damaged = ends[len(ends) // 3]
    octets[damaged + 4 : damaged + 8] = b"\xff\xff\xff\x7f"
    path = tmp_path / "damaged.pcapng"
    path.write_bytes(octets * 3)

    document = analyse([path], Limits(), 1)
    assert json.loads(document)["captures"][0]["octets"] == damaged
    assert analyse([path], Limits(), 3) == document
    assert given_up == [False]


def test_near_the_limit_of_flows_nothing_is_read_twice(given_up: list[bool]) -> None:
    # Given a limit that only the packets of one table could have stepped over
    path = LAB / "10-tls12.pcap"
    count = len(json.loads(alone(path))["connections"]["data"]["client_ip"])
    limits = Limits(max_flows=count * 4 // 3 + 4)
    expected = analyse([path], limits, 1)
    reads: list[int] = []
    read = analysis.Work._read_frames

    def counted(self: analysis.Work, reader: Any, number: int, progress: Any, team: Team | None = None) -> Any:
        reads.append(number)
        return read(self, reader, number, progress, team)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis.Work, "_read_frames", counted)
        assert analyse([path], limits, 2) == expected
    assert given_up == [False]
    assert reads == [0]


class _Meeting:
    """Sums over threads, as a team has them over processes."""

    def __init__(self, size: int) -> None:
        self._numbers = [0] * size
        self._barrier = threading.Barrier(size, timeout=30)

    def total(self, rank: int, number: int) -> int:
        self._numbers[rank] = number
        self._barrier.wait()
        whole = sum(self._numbers)
        self._barrier.wait()
        return whole


@given(st.data())
def test_counters_of_traffic_together_coarsen_as_one_does(data: st.DataObject) -> None:
    count, size = data.draw(st.integers(1, 300)), data.draw(st.integers(2, 4))
    numbers = np.random.default_rng(data.draw(st.integers(0, 1 << 20)))
    flow = numbers.integers(0, data.draw(st.integers(1, 30)), count)
    longest = 1 << data.draw(st.integers(18, 30))
    time_ns = np.cumsum(numbers.integers(0, longest, count)) + 1_700_000_000_000_000_000
    settles = set(data.draw(st.lists(st.integers(0, count), max_size=8)))
    rows, block = data.draw(st.integers(8, 100)), data.draw(st.integers(1, 60))

    def play(counter: TrafficCounter, mine: Callable[[int], bool]) -> Traffic:
        for i in range(count):
            if i in settles:
                counter.settle()
            counter.extend(time_ns[i : i + 1])
            if mine(int(flow[i])):
                counter.add(time_ns[i : i + 1], np.array([100]), flow[i : i + 1], np.array([0]))
        return counter.result()

    meeting = _Meeting(size)

    def share(rank: int) -> Traffic:
        counter = TrafficCounter(rows, lambda number: meeting.total(rank, number))
        return play(counter, lambda one: one % size == rank)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(size) as pool:
        patch.setattr(traffic, "_BLOCK", block)
        expected = play(TrafficCounter(rows), lambda _: True)
        shares = list(pool.map(share, range(size)))

    assert {part.shift for part in shares} == {expected.shift}
    found = sorted(row for part in shares for row in zip(*(getattr(part, n).tolist() for n in _COUNTS), strict=True))
    assert found == sorted(zip(*(getattr(expected, n).tolist() for n in _COUNTS), strict=True))
    assert expected.packets.sum() == count


_COUNTS = ("flow", "bin", "packets", "octets")
