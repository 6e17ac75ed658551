"""Counts over time: the same however the input was cut, complete, and bounded."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.schema import I64, FrameTimes, Traffic
from analyzer.traffic import MAX_BINS, FrameClock, TrafficCounter, join_times, join_traffic

START = 1_795_428_000 * 10**9
packets = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 3 * 10**11), st.integers(20, 1500), st.booleans()),
    min_size=1,
    max_size=200,
)


def counted(rows: list[tuple[int, int, int, bool]], cuts: set[int], limit: int = 1 << 20) -> Traffic:
    counter = TrafficCounter(limit)
    edges = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    for start, stop in itertools.pairwise(edges):
        part = rows[start:stop]
        time = np.array([START + offset if timed else 0 for _, offset, _, timed in part], np.int64)
        flows, local = np.unique([flow for flow, *_ in part], return_inverse=True)
        counter.add(time, np.array([length for _, _, length, _ in part], np.int64), flows.astype(np.int64), local)
        if stop % 50 == 0:
            counter.settle()
    return counter.result()


def columns(traffic: Traffic) -> list[list[int]]:
    return [getattr(traffic, name).tolist() for name in ("flow", "bin", "packets", "octets")]


@given(packets, st.sets(st.integers(1, 199)))
def test_every_timed_packet_is_in_one_bin_however_the_input_was_cut(
    rows: list[tuple[int, int, int, bool]], cuts: set[int]
) -> None:
    fixed = set(range(50, 200, 50))
    traffic = counted(rows, cuts | fixed)
    assert columns(traffic) == columns(counted(rows, fixed))
    expected: dict[tuple[int, int], list[int]] = {}
    for flow, offset, length, timed in rows:
        if timed:
            total = expected.setdefault((flow, START + offset >> traffic.shift), [0, 0])
            total[0] += 1
            total[1] += length
    rows_of = [(*key, *total) for key, total in sorted(expected.items())]
    assert list(zip(*columns(traffic), strict=True)) == rows_of
    if expected:
        numbers = [number for _, number in expected]
        assert max(numbers) - min(numbers) < MAX_BINS


def test_bins_are_as_short_as_the_bound_allows() -> None:
    time = START + np.arange(0, 10**10, 10**7)
    counter = TrafficCounter()
    counter.add(time, np.ones(time.shape[0], np.int64), np.zeros(1, np.int64), np.zeros(time.shape[0], np.int64))
    traffic = counter.result()
    assert MAX_BINS / 2 - 1 <= int(traffic.bin[-1] - traffic.bin[0]) + 1 <= MAX_BINS
    assert traffic.packets.sum() == traffic.octets.sum() == time.shape[0]


def test_where_flows_are_many_bins_become_longer_and_nothing_is_lost() -> None:
    """20,000 flows that all send all the time: two million rows at full resolution, bounded to a fraction."""
    flows = np.arange(20_000)
    counter = TrafficCounter(100_000)
    for second in range(100):
        time = np.full(flows.shape[0], START + second * 10**9, np.int64)
        counter.add(time, np.full(flows.shape[0], 100, np.int64), flows, flows)
        counter.settle()
    traffic = counter.result()
    assert len(traffic) <= 100_000
    assert traffic.packets.sum() == 100 * flows.shape[0]
    assert np.array_equal(np.bincount(traffic.flow, traffic.octets), np.full(flows.shape[0], 10_000))


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12))
def test_frame_times_are_exact_while_few_and_never_late(lengths: list[int]) -> None:
    times: I64 = START + np.arange(sum(lengths)) * 1000
    clock, whole = FrameClock(256), FrameClock(256)
    at = 0
    for length in lengths:
        clock.add(at + 1, times[at : at + length])
        at += length
    whole.add(1, times)
    found, again = clock.result(), whole.result()
    assert found.stride == again.stride
    assert np.array_equal(found.time_ns, again.time_ns)
    assert found.time_ns.shape[0] <= 256
    frames = np.arange(1, at + 1)
    late = times - found.at(frames)
    assert ((late >= 0) & (late < found.stride * 1000)).all()
    assert found.at(np.array([0]))[0] == 0
    if at <= 256:
        assert (late == 0).all()


def test_no_packets_no_bins() -> None:
    assert len(TrafficCounter().result()) == 0
    assert FrameClock().result().at(np.array([1, 2])).tolist() == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 10**12)), min_size=1, max_size=6), st.data())
def test_recordings_joined_in_any_grouping_are_the_same(recordings: list[tuple[int, int]], data: st.DataObject) -> None:
    def made(frames: int, begin: int) -> tuple[Traffic, FrameTimes]:
        counter, clock = TrafficCounter(), FrameClock(64)
        if frames:
            time = START + begin + np.arange(frames) * 10**8
            flows = np.arange(frames) % 3
            counter.add(time, np.full(frames, 100, np.int64), np.arange(3), flows)
            clock.add(1, time)
        return counter.result(), clock.result()

    parts = [(*made(*one), one[0]) for one in recordings]
    traffic_of_all = join_traffic([p[0] for p in parts], [3] * len(parts))
    times_of_all = join_times([p[1] for p in parts], [p[2] for p in parts])
    cut = data.draw(st.integers(0, len(parts)))
    halves = [half for half in (parts[:cut], parts[cut:]) if half]
    traffic = join_traffic(
        [join_traffic([p[0] for p in half], [3] * len(half)) for half in halves], [3 * len(half) for half in halves]
    )
    times = join_times(
        [join_times([p[1] for p in half], [p[2] for p in half]) for half in halves],
        [sum(p[2] for p in half) for half in halves],
    )
    assert traffic.shift == traffic_of_all.shift
    for name in ("flow", "bin", "packets", "octets"):
        assert np.array_equal(getattr(traffic, name), getattr(traffic_of_all, name)), name
    for name in ("first", "strides", "offsets", "time_ns"):
        assert np.array_equal(getattr(times, name), getattr(times_of_all, name)), name
    assert traffic.packets.sum() == sum(frames for frames, _ in recordings)
    # Every frame has a time of its own recording, and none that comes after it.
    before = 0
    for (frames, begin), (_, clock, _) in zip(recordings, parts, strict=True):
        if frames:
            true = START + begin + np.arange(frames) * 10**8
            found = times.at(before + 1 + np.arange(frames))
            assert ((true - found >= 0) & (true - found < clock.stride * 10**8)).all()
        before += frames


def test_what_is_forgotten_of_many_rows_leaves_the_others_as_they_are() -> None:
    flows = np.arange(2000)
    counter = TrafficCounter(10_000)
    for second in range(100):
        time = np.full(flows.shape[0], START + second * 10**9, np.int64)
        counter.add(time, np.full(flows.shape[0], 100, np.int64), flows, flows)
    whole = counter.result()

    counter.keep(np.where(flows < 1000, flows, -1))
    counter.add(np.full(1000, START, np.int64), np.full(1000, 100, np.int64), flows[:1000], flows[:1000])

    kept = counter.result()
    assert kept.shift == whole.shift
    assert kept.packets.sum() == whole.packets[whole.flow < 1000].sum() + 1000
