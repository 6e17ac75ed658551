"""From full flow keys to dense integers, exactly, for many packets in one step.

An open-addressed hash table whose probe is a numpy step over all keys still looking for their slot. A hash finds
candidates; the whole key decides, so a collision costs a step and never merges two flows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from analyzer.schema import I64, U64, Mask

KEY_WORDS: Final = 5
"""Address pair as 2 x 16 octets, and ports, protocol and encapsulation in one word."""

_EMPTY: Final = -1
# Odd 64-bit multipliers (the constants of SplitMix64 and of MurmurHash3's finalizer).
_MULTIPLIERS: Final = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53], np.uint64
)


def _hash(keys: U64, seed: np.uint64) -> U64:
    """Mix each key into 64 bits: (N, 5) uint64 -> (N,) uint64."""
    mixed: U64 = np.full(keys.shape[0], seed, np.uint64)
    for word in range(KEY_WORDS):
        mixed = (mixed ^ keys[:, word]) * _MULTIPLIERS[word]
        mixed ^= mixed >> np.uint64(29)
    # A product carries upwards only: fold the high half down twice, or ports would never reach the slot bits.
    for multiplier in _MULTIPLIERS[3:]:
        mixed ^= mixed >> np.uint64(33)
        mixed *= multiplier
    mixed ^= mixed >> np.uint64(32)
    return mixed


def _equal(one: U64, other: U64) -> Mask:
    """Rows that are equal: a reduction over rows of five costs ten times as much as five columns."""
    same: Mask = one[:, 0] == other[:, 0]
    for word in range(1, KEY_WORDS):
        same &= one[:, word] == other[:, word]
    return same


_REGISTER_BITS: Final = 12


class DistinctCounter:
    """About how many distinct keys were seen, in 4 KiB: HyperLogLog (Flajolet et al. 2007), within 2 % of them."""

    def __init__(self) -> None:
        self._registers = np.zeros(1 << _REGISTER_BITS, np.uint8)

    def add(self, keys: U64) -> None:
        """Take in keys: (N, 5) uint64."""
        mixed = _hash(keys, np.uint64(0x5851F42D4C957F2D))
        register = (mixed >> np.uint64(64 - _REGISTER_BITS)).astype(np.int64)
        rest = mixed << np.uint64(_REGISTER_BITS) | np.uint64((1 << _REGISTER_BITS) - 1)
        # Leading zeros + 1, by the exponent of the rest: rounding to float can but raise it to the next power of two.
        high = (rest >> np.uint64(32)).astype(np.float64)
        low = np.where(high > 0, high, (rest & np.uint64(0xFFFFFFFF)).astype(np.float64))
        rank = np.where(high > 0, 33, 65) - np.frexp(low)[1]
        np.maximum.at(self._registers, register, rank.astype(np.uint8))

    def __int__(self) -> int:
        registers = self._registers.shape[0]
        empty = int((self._registers == 0).sum())
        estimate = 0.7213 / (1 + 1.079 / registers) * registers**2 / float((0.5 ** self._registers.astype(float)).sum())
        if estimate <= 2.5 * registers and empty:
            estimate = registers * float(np.log(registers / empty))
        return round(estimate)


class FlowIndex:
    """Dense identifiers 0, 1, 2 ... of the distinct keys asked for, in order of first appearance within a call.

    Parameters
    ----------
    seed : int
        Start value of the hash, so that crafted addresses cannot aim at one slot chain.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        self._slots: I64 = np.full(1 << 12, _EMPTY, np.int64)
        self._keys: U64 = np.empty((1 << 10, KEY_WORDS), np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> U64:
        """The distinct keys by identifier: (len(self), 5) uint64."""
        return self._keys[: self._count]

    def _reserve(self, more: int) -> None:
        need = self._count + more
        if need > self._keys.shape[0]:
            grown = np.empty((max(need, self._keys.shape[0] * 3 // 2), KEY_WORDS), np.uint64)
            grown[: self._count] = self.keys
            self._keys = grown
        if need * 3 > self._slots.shape[0]:
            size = 1 << (need * 4 - 1).bit_length()
            self._slots = np.full(size, _EMPTY, np.int64)
            self._place(np.arange(self._count))

    def _place(self, ids: I64) -> None:
        """Put existing, distinct identifiers into empty slots."""
        mask = np.uint64(self._slots.shape[0] - 1)
        at = (_hash(self._keys[ids], self._seed) & mask).astype(np.int64)
        while ids.shape[0]:
            free = self._slots[at] == _EMPTY
            self._slots[at[free]] = ids[free]
            lost = self._slots[at] != ids
            ids, at = ids[lost], (at[lost] + 1) & (self._slots.shape[0] - 1)

    def find(self, keys: U64) -> I64:
        """Identifier of each key, -1 where it has none: (N, 5) uint64 -> (N,) int64. Nothing is added."""
        size_mask = self._slots.shape[0] - 1
        at = (_hash(keys, self._seed) & np.uint64(size_mask)).astype(np.int64)
        result: I64 = np.full(keys.shape[0], -1, np.int64)
        looking: I64 = np.arange(keys.shape[0])
        while looking.shape[0]:
            held = self._slots[at[looking]]
            looking, held = looking[held != _EMPTY], held[held != _EMPTY]
            same = _equal(self._keys.take(held, axis=0), keys.take(looking, axis=0))
            result[looking[same]] = held[same]
            looking = looking[~same]
            at[looking] = (at[looking] + 1) & size_mask
        return result

    def keep(self, ids: I64) -> None:
        """Forget all keys but those of `ids`, ascending; key ``ids[i]`` has identifier i from now on."""
        self._keys = self._keys[ids]
        self._count = ids.shape[0]
        self._slots = np.full(max(1 << 12, 1 << (self._count * 4).bit_length()), _EMPTY, np.int64)
        self._place(np.arange(self._count))

    def lookup(self, keys: U64) -> I64:
        """Identifier of each key, new ones added.

        Parameters
        ----------
        keys : (N, 5) uint64

        Returns
        -------
        (N,) int64
        """
        n = keys.shape[0]
        if n > 1:
            # Packets come in runs of one flow: only the first of each run is looked up.
            new = np.ones(n, bool)
            np.not_equal(keys[1:, 0], keys[:-1, 0], out=new[1:])
            for word in range(1, KEY_WORDS):  # a reduction over rows of five costs ten times as much
                new[1:] |= keys[1:, word] != keys[:-1, word]
            heads = np.flatnonzero(new)
            if heads.shape[0] * 4 < n * 3:
                runs: I64 = self._probe(keys[heads])[np.cumsum(new) - 1]
                return runs
        return self._probe(keys)

    def _probe(self, keys: U64) -> I64:
        """`lookup`, for keys of which any may be new."""
        n = keys.shape[0]
        self._reserve(n)
        size_mask = self._slots.shape[0] - 1
        at = (_hash(keys, self._seed) & np.uint64(size_mask)).astype(np.int64)
        result: I64 = np.full(n, _EMPTY, np.int64)
        looking: I64 = np.arange(n)
        while looking.shape[0]:
            here = at[looking]
            held = self._slots[here]
            vacant = held == _EMPTY
            if vacant.any():
                # One newcomer a vacant slot: written backwards, so the first row to ask for it wins.
                claim = looking[vacant][::-1]
                self._slots[at[claim]] = -2 - claim
                claim = claim[::-1]
                winner = claim[self._slots[at[claim]] == -2 - claim]
                ids = np.arange(self._count, self._count + winner.shape[0])
                self._keys[ids] = keys[winner]
                self._slots[at[winner]] = ids
                self._count += winner.shape[0]
                held = self._slots[here]
            same = _equal(self._keys.take(held, axis=0), keys.take(looking, axis=0))
            result[looking[same]] = held[same]
            looking = looking[~same]
            at[looking] = (at[looking] + 1) & size_mask
        return result


class PairCache:
    """Answers of a `FlowIndex` remembered by two words that stand for a key of five.

    To make a key and probe for it costs ten times as much as asking here. One slot an answer: what shares a slot with
    another is looked up again, and never confused, because the whole pair decides.
    """

    _LEAST: Final = 1 << 12
    _MOST: Final = 1 << 20
    """Slots, which bounds the cache to 32 MiB whatever the number of connections."""

    def __init__(self) -> None:
        self._answer: I64 = np.empty(0, np.int64)
        self._grow(0)

    def _grow(self, known: int) -> None:
        """Keep four slots for each pair known, up to the limit; what was remembered is asked for again."""
        slots = min(max(self._LEAST, 1 << (known * 4).bit_length()), self._MOST)
        if slots <= self._answer.shape[0]:
            return
        self._shift = np.uint64(65 - slots.bit_length())
        self._pair: U64 = np.zeros(slots, np.uint64)
        self._rest: U64 = np.zeros(slots, np.uint64)
        self._answer = np.full(slots, _EMPTY, np.int64)
        self._claim: I64 = np.empty(slots, np.int64)

    def keep(self, renamed: I64) -> None:
        """Answer ``renamed[a]`` in place of a from now on; where that is negative, ask again."""
        held = np.flatnonzero(self._answer >= 0)
        self._answer[held] = np.maximum(renamed[self._answer[held]], _EMPTY)

    def _slots(self, pair: U64, rest: U64) -> I64:
        mixed = pair * _MULTIPLIERS[0]
        mixed ^= rest * _MULTIPLIERS[1]
        mixed ^= mixed >> np.uint64(32)
        mixed *= _MULTIPLIERS[2]
        mixed >>= self._shift
        slots: I64 = mixed.view(np.int64)
        return slots

    def lookup(self, pair: U64, rest: U64, usable: Mask | None, known: int, ask: Callable[[I64], I64]) -> I64:
        """Answer of each packet, remembered or asked for.

        Parameters
        ----------
        pair, rest : (N,) uint64
            Together they decide the answer, where `usable` holds.
        usable : (N,) bool, optional
            Where it does not hold, the packet is asked for whatever its pair. None: it holds everywhere.
        known : int
            About how many different pairs there have been.
        ask : callable
            Rows (K,) int64 to their answers (K,) int64, none of them negative. Called at most once.
        """
        self._grow(known)
        at = self._slots(pair, rest)
        same = self._pair.take(at) == pair
        same &= self._rest.take(at) == rest
        if usable is not None:
            same &= usable
        answers: I64 = np.where(same, self._answer.take(at), _EMPTY)
        unknown = np.flatnonzero(answers < 0)
        if unknown.shape[0] == 0:
            return answers
        # Packets of a new connection come together: of those that share a slot one asks for all that equal it.
        at = at[unknown]
        self._claim[at[::-1]] = unknown[::-1]  # backwards: the first packet stays
        leader = self._claim.take(at)
        follows = (pair[leader] == pair[unknown]) & (rest[leader] == rest[unknown])
        if usable is not None:
            follows &= usable[unknown] & usable[leader]
        leads = leader == unknown
        asking = unknown[leads | ~follows]
        answers[asking] = ask(asking)
        follower = np.flatnonzero(follows)
        answers[unknown[follower]] = answers[leader[follower]]
        kept = np.flatnonzero(leads & follows)  # usable, and one a slot
        at, rows = at[kept], unknown[kept]
        self._pair[at], self._rest[at], self._answer[at] = pair[rows], rest[rows], answers[rows]
        return answers
