"""What connections that go on say so far: read again only where something new came since it was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from analyzer.assembly import Batch, complete
from analyzer.flows import FlowBuilder, place_of
from analyzer.numbers import grown
from analyzer.registries import Ternary
from analyzer.schema import I64, Mask


class Reader(Protocol):
    """What reads flows: a `Pipeline`."""

    flows: FlowBuilder

    def interpret(self, chosen: I64) -> Batch:
        """Read the heads of the flows `chosen`."""


class Rereader:
    """Read flows that have not been settled, and remember what was read.

    Parameters
    ----------
    pipeline : Reader
    """

    def __init__(self, pipeline: Reader) -> None:
        self._pipeline = pipeline
        self._batch: Batch | None = None
        self._read_at: I64 = np.zeros(1 << 10, np.int64)  # last frame of each flow when it was read; 0 = it was not
        self._whole: Mask = np.zeros(1 << 10, bool)  # its handshake was read whole: more packets change nothing

    def forget(self) -> None:
        """Read everything anew the next time: there are more keys."""
        self._batch = None
        self._read_at[:] = 0
        self._whole[:] = False

    def again(self, flows: I64) -> None:
        """Read `flows` anew the next time: they were out of sight, which looks as if they had been settled."""
        self._reserve()
        self._read_at[flows] = 0
        self._whole[flows] = False

    def keep(self, kept: I64, count: int) -> None:
        """Forget all of the `count` flows but `kept`, ascending; flow ``kept[i]`` is flow i from now on."""
        self._reserve()
        self._read_at, self._whole = self._read_at[kept], self._whole[kept]
        if self._batch is not None:
            self._batch = self._batch.of(kept).compact().renumbered(place_of(kept, count))

    def reader(self, *, exact: bool) -> Callable[[I64], list[Batch]]:
        """What `Pipeline.evidence` takes; `exact`: also what can hardly have changed is read again."""

        def read(rest: I64) -> list[Batch]:
            return [self._read(rest, exact=exact)]

        return read

    def unsaid(self, since: int) -> bool:
        """Whether packets after frame `since` may have said something that is not read yet."""
        self._reserve()
        count = len(self._pipeline.flows)
        new = self._pipeline.flows.state.last_frame[:count] > since
        return bool((new & ~self._whole[:count]).any())

    def _reserve(self) -> None:
        count = len(self._pipeline.flows)
        self._read_at, self._whole = grown(self._read_at, count), grown(self._whole, count)

    def _read(self, rest: I64, *, exact: bool) -> Batch:
        self._reserve()
        count = len(self._pipeline.flows)
        # The others are settled, or out of sight until `again`; nor are they in the batch any more.
        gone = np.ones(count, bool)
        gone[rest] = False
        self._whole[:count] |= gone
        self._read_at[:count][gone] = 0
        last = self._pipeline.flows.state.last_frame[rest]
        known = self._read_at[rest] == last
        if not exact:
            known |= self._whole[rest]
        known &= np.isin(rest, self._batch.flows) if self._batch is not None else False
        new = rest[~known]
        fresh = self._pipeline.interpret(new)
        self._read_at[new] = last[~known]
        self._whole[new] = False
        self._whole[fresh.tls.facts.flow[complete(fresh.tls) & (fresh.tls.facts.decrypted != Ternary.YES)]] = True
        self._whole[fresh.flows[fresh.holed]] = False
        if self._batch is not None and known.any():
            fresh = Batch.joined([self._batch.of(rest[known]), fresh])
        self._batch = fresh
        return fresh
