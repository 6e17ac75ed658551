from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.flow_index import KEY_WORDS, DistinctCounter, FlowIndex, PairCache

BATCHES = st.lists(st.lists(st.integers(0, 40), min_size=0, max_size=60), min_size=1, max_size=6)


def keys_of(numbers: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Keys that differ in one word only, and in which word depends on the number."""
    keys = np.zeros((len(numbers), KEY_WORDS), np.uint64)
    for row, number in enumerate(numbers):
        keys[row, number % KEY_WORDS] = number
    return keys


@given(BATCHES)
def test_identifiers_are_those_of_a_dictionary(batches: list[list[int]]) -> None:
    index = FlowIndex()
    known: dict[bytes, int] = {}
    for batch in batches:
        keys = keys_of(batch)
        found = index.lookup(keys)
        for key, identifier in zip(keys, found.tolist(), strict=True):
            assert known.setdefault(key.tobytes(), identifier) == identifier
    assert len(index) == len(known) == len(set(known.values()))
    for octets, identifier in known.items():
        assert index.keys[identifier].tobytes() == octets


def test_keys_with_one_slot_chain_stay_apart(monkeypatch: object) -> None:
    # Given a hash that sends every key to the same slot
    import analyzer.flow_index as module

    original = module._hash
    module._hash = lambda keys, seed: np.zeros(keys.shape[0], np.uint64)
    try:
        index = FlowIndex()
        numbers = list(range(1, 200))
        # When they are looked up twice
        first = index.lookup(keys_of(numbers))
        again = index.lookup(keys_of(numbers[::-1]))
    finally:
        module._hash = original
    # Then each key has an identifier of its own, and the same both times
    assert len(set(first.tolist())) == len(numbers)
    assert again.tolist() == first.tolist()[::-1]


def test_growth_keeps_identifiers() -> None:
    index = FlowIndex(seed=1)
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 1 << 63, (50_000, KEY_WORDS)).astype(np.uint64)
    first = np.concatenate([index.lookup(part) for part in np.array_split(keys, 37)])
    assert np.array_equal(index.lookup(keys), first)
    assert np.array_equal(np.sort(first), np.arange(50_000))


@given(BATCHES)
def test_finding_adds_nothing(batches: list[list[int]]) -> None:
    index = FlowIndex()
    assert index.find(keys_of([1, 2])).tolist() == [-1, -1]
    for batch in batches:
        keys = keys_of(batch)
        before = len(index)
        found = index.find(keys)
        assert len(index) == before
        asked = index.lookup(keys)
        assert ((found == asked) | ((found == -1) & (asked >= before))).all()
        assert (index.find(keys) == asked).all()


@pytest.mark.parametrize("count", [0, 1, 50, 1000, 5000, 100_000, 1_000_000])
def test_distinct_keys_are_counted_within_a_few_percent(count: int) -> None:
    counter = DistinctCounter()
    keys = np.zeros((count, KEY_WORDS), np.uint64)
    keys[:, 1] = np.arange(count)
    for _ in range(2):  # a key seen again changes nothing
        for start in range(0, count, 65536):
            counter.add(keys[start : start + 65536])
    assert abs(int(counter) - count) <= 0.05 * count


PAIRS = st.tuples(st.integers(0, 9), st.integers(0, 3), st.booleans())


@given(st.lists(st.lists(PAIRS, max_size=40), min_size=1, max_size=5), st.booleans())
def test_a_remembered_answer_is_that_of_asking_again(batches: list[list[tuple[int, int, bool]]], crowd: bool) -> None:
    # Given a cache whose pairs may all share one slot, and questions of which some may not be remembered
    cache = PairCache()
    if crowd:
        cache._shift = np.uint64(63)
    for batch in batches:
        pair = np.array([p for p, _, _ in batch], np.uint64)
        rest = np.array([r for _, r, _ in batch], np.uint64)
        usable = np.array([u for _, _, u in batch], bool)
        truth = np.where(usable, pair * np.uint64(10) + rest, np.uint64(1000) + pair).astype(np.int64)
        asked: list[int] = []

        def ask(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            asked.extend(rows.tolist())  # noqa: B023
            return truth[rows]  # noqa: B023

        answers = cache.lookup(pair, rest, None if usable.all() else usable, 0, ask)
        # Then every answer is right, whatever was remembered
        assert answers.tolist() == truth.tolist()
        assert asked == sorted(set(asked))


def test_what_was_asked_for_once_is_remembered() -> None:
    cache = PairCache()
    pair = np.repeat(np.arange(50, dtype=np.uint64), 3)
    asked: list[int] = []

    def ask(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        asked.extend(rows.tolist())
        return pair[rows].astype(np.int64)

    assert cache.lookup(pair, pair, None, 0, ask).tolist() == pair.tolist()
    assert len(asked) < 60  # one row of each, and the few that share a slot with another
    asked.clear()
    assert cache.lookup(pair, pair, None, 0, ask).tolist() == pair.tolist()
    assert len(asked) < 10


def test_a_growing_cache_forgets_and_asks_again() -> None:
    cache = PairCache()
    pair = np.arange(3000, dtype=np.uint64)
    calls: list[int] = []

    def ask(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        calls.append(rows.shape[0])
        return pair[rows].astype(np.int64)

    for known in (0, 3000, 1 << 40):
        assert cache.lookup(pair, pair, None, known, ask).tolist() == pair.tolist()
    assert calls == [3000, 3000, 3000]
    assert cache._answer.shape[0] == PairCache._MOST
