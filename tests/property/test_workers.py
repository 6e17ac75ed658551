"""The report is the same for any number of processes, and when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analyzer import pipeline
from analyzer.analysis import run
from analyzer.capture import ranges, source
from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.source import Opening
from analyzer.pipeline import Limits
from analyzer.report.document import build_document
from analyzer.schema import I64
from analyzer.workers import Task, can_fork
from tests.conftest import LAB

pytestmark = pytest.mark.skipif(not can_fork(), reason="this system makes no copies of processes")
CAPTURES = sorted(p for p in LAB.iterdir() if p.suffix in (".pcap", ".pcapng"))


@pytest.fixture(autouse=True)
def _children_for_small_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_LEAST_SHARE", 2)
    monkeypatch.setattr(source, "LEAST_RANGED", 0)
    monkeypatch.setattr(ranges, "RANGE_OCTETS", 64 << 10)


def analyse(paths: list[Path], limits: Limits, workers: int) -> str:
    with open_captures([Source(str(path)) for path in paths], Opening(workers=workers)) as reader:
        document = build_document(run(reader, limits=limits, workers=workers))
    return json.dumps(document, sort_keys=True)


def frames(document: str) -> int:
    number: int = json.loads(document)["ledger"]["frames"]
    return number


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_any_number_of_workers_gives_the_same_document(path: Path) -> None:
    expected = analyse([path], Limits(), 1)
    # Three rounds on the way and one at the end.
    limits = Limits(epoch_frames=max(16, frames(expected) // 4), settle_octets=0)
    for workers in (2, 4, 8):
        assert analyse([path], limits, workers) == expected, workers


def test_several_captures_do_too() -> None:
    chosen = [LAB / "05-proxy-cleartext.pcap", LAB / "10-tls12.pcap", LAB / "11-keylog-dsb.pcapng"]
    limits = Limits(epoch_frames=100, settle_octets=0)

    assert analyse(chosen, limits, 3) == analyse(chosen, limits, 1)


def test_memory_pressure_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a budget so small that connections are read before they are complete
    path = LAB / "27-fmt-packet-loss.pcap"
    limits = Limits(epoch_frames=50, settle_octets=1 << 12, heads_budget=1 << 14)

    pressed: list[int] = []
    close = pipeline.Pipeline._close

    def noted(self: pipeline.Pipeline, flows: I64) -> None:
        pressed.append(1)
        close(self, flows)

    monkeypatch.setattr(pipeline.Pipeline, "_close", noted)

    documents = {analyse([path], limits, workers) for workers in (1, 2, 4, 8)}

    assert len(documents) == 1
    assert pressed


def test_a_killed_worker_costs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given children that are killed in the middle of their work
    path = LAB / "10-tls12.pcap"
    limits = Limits(epoch_frames=100, settle_octets=0)
    expected = analyse([path], limits, 1)
    parent, killed = os.getpid(), []

    class Killed(Task[Any]):
        def __init__(self, work: Callable[[], Any]) -> None:
            def fatal() -> Any:
                if os.getpid() != parent:
                    os.kill(os.getpid(), signal.SIGKILL)
                killed.append(1)
                return work()

            super().__init__(fatal)

    monkeypatch.setattr(pipeline, "Task", Killed)

    assert analyse([path], limits, 3) == expected
    assert killed
