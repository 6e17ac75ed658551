"""Recordings read apart, merged in any grouping and order, give the document that one after the other gives."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import signal
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer import workers
from analyzer.analysis import TOGETHER, Progress, Work, flow_limits, run
from analyzer.assembly import compact_tls
from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.several import Capture, CaptureSet, Portion, Recording
from analyzer.partial import Partial, merge
from analyzer.pipeline import Limits
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.registries import Ternary
from analyzer.report.audit_result import AuditResult
from analyzer.report.document import build_document
from analyzer.workers import Task, can_fork
from tests.builders import SYN, Conversation, ethernet, ipv4, tcp
from tests.capture_builders import Frame, enhanced, interface, options, pcap_file, section
from tests.conftest import LAB

CHOSEN = (
    "04-node-to-apiserver.pcap",
    "05-proxy-cleartext.pcap",
    "07e-konnectivity-verified-kubelet.pcap",
    "08b-etcd-cleartext.pcap",
    "10-tls12.pcap",
    "11-keylog-dsb.pcapng",
    "12-overlay-vxlan.pcap",
    "25-fmt-cut-mid-packet.pcap",
)
LIMITS = Limits(epoch_frames=100, settle_octets=0)


def captures() -> list[Path]:
    return [LAB / name for name in CHOSEN]


def opened(paths: Sequence[Path]) -> CaptureSet:
    return open_captures([Source(str(path)) for path in paths])


def text(result: Any) -> str:
    return json.dumps(build_document(result), sort_keys=True)


def analyse(paths: Sequence[Path], count: int = 1) -> str:
    with opened(paths) as reader:
        return text(run(reader, limits=LIMITS, workers=count))


@cache
def partials() -> tuple[list[Partial], str]:
    """Every recording read by itself, from the last to the first, and what all of them give."""
    with opened(captures()) as reader:
        keys = KeyLog(*reader.leading_secrets)
        assert len(keys)
        work = Work(LIMITS, keys)
        found = [p for portion in reversed(reader.portions) for p in work.read_portion(portion)]
    return found, analyse(captures())


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_any_grouping_in_any_order_gives_the_same(data: st.DataObject) -> None:
    found, expected = partials()
    # Given results that travelled, as they do between processes, merged two or more at a time
    heap = data.draw(st.permutations(pickle.loads(pickle.dumps(found))))
    while len(heap) > 1 and data.draw(st.booleans()):
        taken = data.draw(st.integers(2, len(heap)))
        heap = data.draw(st.permutations(merge(heap[:taken]) + list(heap[taken:])))

    def given_so(*_: object) -> list[Partial]:
        return list(heap)

    with opened(captures()) as reader:
        assert text(run(reader, limits=LIMITS, spread=given_so)) == expected


def in_one_pipeline(paths: Sequence[Path]) -> AuditResult:
    """What one pipeline over all captures gives, which numbers everything through and joins nothing."""

    def whole(_: object, work: Work, *__: object) -> list[Partial]:
        with opened(paths) as reader:
            return [work.read(reader)]

    with opened(paths) as reader:
        return run(reader, limits=LIMITS, spread=whole)


def differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Names of all fields in which two values differ, to any depth, shown in a report or not."""
    if is_dataclass(one):
        assert type(one) is type(other), name
        names = [field.name for field in fields(one)]
        return [d for n in names for d in differing(getattr(one, n), getattr(other, n), f"{name}.{n}")]
    if isinstance(one, np.ndarray):
        return [] if np.array_equal(one, other) else [name]
    if isinstance(one, (list, tuple)) and len(one) == len(other):
        return [d for pair in zip(one, other, strict=True) for d in differing(pair[0], pair[1], name)]
    if isinstance(one, dict):
        assert one.keys() == other.keys(), name
        return [d for key in one for d in differing(one[key], other[key], f"{name}.{key}")]
    return [] if one == other else [name]


def with_comments() -> bytes:
    """A connection later than all others, with a comment on each of its packets."""
    frames = Conversation(dport=10250).open().send(0, b"GET /pods HTTP/1.1\r\nHost: n\r\n\r\n").frames
    return b"".join(
        [
            section(),
            interface(),
            *(enhanced(octets, 2 * 10**15 + n, opts=options([(1, b"%d" % n)])) for n, octets in enumerate(frames)),
        ]
    )


def test_what_is_joined_is_what_one_pipeline_gives(tmp_path: Path) -> None:
    """The oracle that shares nothing with joining: a column that is not moved is wrong on one side only."""
    (tmp_path / "said.pcapng").write_bytes(with_comments())
    every = [*sorted(LAB.glob("*.pcap")), *sorted(LAB.glob("*.pcapng")), tmp_path / "said.pcapng"]
    assert len(every) > 30
    whole = in_one_pipeline(every)
    with opened(every) as reader:
        joined = run(reader, limits=LIMITS)
    assert '"0; 1; 2"' in text(whole)
    assert text(joined) == text(whole)
    ours, theirs = (replace(e, tls=compact_tls(e.tls)) for e in (joined.audit.evidence, whole.audit.evidence))
    # Interfaces are those of a recording, and times of frames, which the document has, are packed by recording.
    alike = {".flows.interfaces", ".frame_times.first", ".frame_times.strides", ".frame_times.offsets"}
    assert set(differing(ours, theirs)) <= alike


def test_merging_leaves_what_is_merged_as_it_was() -> None:
    found, _ = partials()
    before = [pickle.dumps(partial) for partial in found]
    merge(found)
    merge(found[:3])
    assert [pickle.dumps(partial) for partial in found] == before


@pytest.mark.skipif(not can_fork(), reason="this system makes no copies of processes")
@pytest.mark.parametrize("count", [2, 4, 8])
def test_captures_spread_over_children_give_the_same(count: int) -> None:
    assert analyse(captures(), count) == partials()[1]


@pytest.mark.skipif(not can_fork(), reason="this system makes no copies of processes")
def test_a_killed_child_costs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, again = os.getpid(), []

    class Killed(Task[Any]):
        def __init__(self, work: Callable[[], Any]) -> None:
            def fatal() -> Any:
                if os.getpid() != parent:
                    os.kill(os.getpid(), signal.SIGKILL)
                again.append(1)
                return work()

            super().__init__(fatal)

    monkeypatch.setattr(workers, "Task", Killed)
    assert analyse(captures(), 3) == partials()[1]
    assert len(again) == len(captures())


@pytest.mark.skipif(not can_fork(), reason="this system makes no copies of processes")
def test_progress_is_told_of_all_children_together() -> None:
    told: list[tuple[int, int]] = []
    with opened(captures()) as reader:
        size = reader.size
        document = build_document(
            run(reader, limits=LIMITS, workers=2, progress=lambda octets, frames: told.append((octets, frames)))
        )
    assert told[-1] == (size, document["ledger"]["frames"])
    assert told == sorted(told)


def a_folder(where: Path) -> Path:
    """Captures of several nodes, one rotated, among what is none, is damaged, is compressed, or is an archive."""
    for node, name in (("a", "05-proxy-cleartext.pcap"), ("b", "10-tls12.pcap")):
        (where / node).mkdir(parents=True)
        shutil.copy(LAB / name, where / node / "eth0.pcap")
    (where / "b" / "eth0.pcap1").write_bytes((LAB / "08b-etcd-cleartext.pcap").read_bytes())
    (where / "c.pcap.gz").write_bytes(gzip.compress((LAB / "04-node-to-apiserver.pcap").read_bytes(), mtime=0))
    (where / "broken.pcap.gz").write_bytes(gzip.compress((LAB / "10-tls12.pcap").read_bytes(), mtime=0)[:5000])
    (where / "readme.txt").write_text("no capture")
    with tarfile.open(where / "d.tar", "w") as archive:
        for name in ("12-overlay-vxlan.pcap", "07e-konnectivity-verified-kubelet.pcap"):
            octets = (LAB / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(octets)
            archive.addfile(member, io.BytesIO(octets))
    return where


def test_what_is_damaged_costs_nothing_of_the_rest(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "nodes")
    expected = analyse([folder])
    document = json.loads(expected)
    assert [skipped["name"] for skipped in document["skipped"]["files"]] == [str(folder / "readme.txt")]
    assert sum(bool(capture["damage"]) for capture in document["captures"]) == 1
    assert len(document["captures"]) == 7
    for count in (2, 4):
        assert analyse([folder], count) == expected


def test_recordings_of_one_archive_are_one_portion(tmp_path: Path) -> None:
    with opened([a_folder(tmp_path / "nodes")]) as reader:
        sizes = [len(portion.recordings) for portion in reader.portions]
        numbers = sorted(number for portion in reader.portions for number, _ in portion.recordings)
        assert sorted(sizes) == [1] * (len(sizes) - 1) + [2]
        assert numbers == list(range(len(numbers)))
        # And each can be sent to another process.
        assert len(pickle.dumps(list(reader.portions))) > 0


def test_a_capture_that_vanishes_is_skipped(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "nodes")
    read: list[Portion] = []

    def late(portions: Sequence[Portion], work: Work, _: int, __: Progress | None) -> list[Partial]:
        (folder / "a" / "eth0.pcap").unlink()
        read.extend(portions)
        return [partial for portion in portions for partial in work.read_portion(portion)]

    with opened([folder]) as reader:
        document = build_document(run(reader, spread=late))
    assert read
    assert [(s["name"], s["reason"]) for s in document["skipped"]["files"]][-1] == (
        str(folder / "a" / "eth0.pcap"),
        "no such file",
    )
    assert len(document["captures"]) == 6


def test_secrets_at_the_beginning_of_one_capture_open_those_of_another(tmp_path: Path) -> None:
    """Whichever is read first: where secrets were injected (editcap) they stand before all packets."""
    plain, keyed = LAB / "11-keylog-dsb.pcapng", tmp_path / "keys.pcapng"
    octets = plain.read_bytes()
    with open_captures([Source(str(plain))]) as reader:
        for _ in reader:
            pass
        assert reader.secrets
    shutil.copy(plain, keyed)
    without = tmp_path / "other.pcapng"
    without.write_bytes(_without_secrets(octets))
    decrypted = []
    for order in ([keyed, without], [without, keyed]):
        with opened(order) as reader:
            result = run(reader)
        evidence = result.audit.evidence
        vantage = evidence.flows.vantage[evidence.tls.facts.flow]
        decrypted.append([int(np.sum(evidence.tls.facts.decrypted[vantage == row] == Ternary.YES)) for row in (0, 1)])
    # The same packets at two vantage points, and the secrets in but one of the files.
    assert decrypted[0][0] == decrypted[0][1] > 0
    assert decrypted[0] == decrypted[1]


def a_flood(connections: int, node: int) -> bytes:
    """So many bare SYNs from one node's hosts, and one connection that says something at the end."""
    syns = [ethernet(ipv4(tcp(b"", n + 1, 80, n, 0, SYN), f"10.{node}.0.1")) for n in range(connections)]
    said = Conversation(client=f"10.{node}.0.2", dport=10250).open().send(0, b"GET /pods HTTP/1.1\r\n\r\n").frames
    return pcap_file([Frame(octets, 10**18 + i) for i, octets in enumerate([*syns, *said])])


def test_all_flows_together_are_bounded_whoever_reads_and_in_whatever_order(tmp_path: Path) -> None:
    limits = Limits(max_flows=1000, epoch_frames=100)
    paths = [tmp_path / f"node-{chr(97 + node)}.pcap" for node in range(10)]
    for node, path in enumerate(paths):
        # One of them is no flood.
        path.write_bytes(a_flood(1500 if node else 3, node))
    found = []
    for order, count in ((paths, 1), (paths[::-1], 1), (paths, 3)):
        with opened(order) as reader:
            found.append(build_document(run(reader, limits=limits, workers=count)))
    assert found[1:] == found[:-1]
    ledger = found[0]["ledger"]
    assert ledger["balanced"]
    assert 2500 < ledger["flows"] <= TOGETHER * 1000
    # Each flood's packets, and the handshake of the connection behind it: each is a flow that is kept, or left out.
    assert ledger["flows"] + ledger["left_out"]["packets"] == 9 * (1501 + 3) + 4
    assert 200 <= ledger["left_out"]["limit"] < 1000
    # Nobody who says something has lost a place.
    assert found[0]["channels"]
    assert found[0]["connections"]["data"]["protocol"].count("http/1") == 10


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=30), st.integers(1000, 10**6))
def test_the_parts_of_the_bound_keep_it(sizes: list[int], each: int) -> None:
    def start() -> Any:
        raise AssertionError

    portions = [
        Portion(((number, Recording((Capture("x", "", True, start, size=size),))),))
        for number, size in enumerate(sizes)
    ]
    limits = flow_limits(portions, each)
    assert len(limits) == len(sizes)
    assert sum(limits) <= TOGETHER * each
    assert max(limits) <= each
    assert min(limits) >= min(each, TOGETHER * each // 2 // len(sizes))
    assert [limits[i] for i in np.argsort(sizes, kind="stable")] == sorted(limits)


def _without_secrets(octets: bytes) -> bytes:
    """A little-endian pcapng file without its decryption secrets blocks."""
    kept, at = b"", 0
    while at < len(octets):
        kind, length = (int.from_bytes(octets[at + i : at + i + 4], "little") for i in (0, 4))
        kept += b"" if kind == 10 else octets[at : at + length]
        at += length
    return kept
