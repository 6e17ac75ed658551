"""HTTP messages as a table: what is asked of them is asked once for each distinct content, not once a message.

Clients ask for the same things again and again: of a node's traffic a few hundred contents are all there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from analyzer.schema import I64, HttpHead, HttpMessage, Mask

Test = Callable[[HttpMessage], object]


@dataclass(frozen=True)
class HttpTable:
    """Messages in the order of their flows, those of a flow in order of time.

    Attributes
    ----------
    flow, frame : (M,) int64
    content : (M,) int64
        Row of `contents`.
    contents : tuple of HttpMessage
        One message of each distinct content; its flow and frame are of no meaning.
    """

    flow: I64
    frame: I64
    content: I64
    contents: tuple[HttpMessage, ...]

    @classmethod
    def of(cls, messages: Sequence[HttpMessage]) -> HttpTable:
        """The table of `messages`, which are in order within each flow."""
        flow = np.array([message.flow for message in messages], np.int64)
        frame = np.array([message.frame for message in messages], np.int64)
        content: list[int] = []
        contents: list[HttpMessage] = []
        known: dict[tuple[HttpHead, bool], int] = {}
        rows: dict[tuple[int, bool], int] = {}  # by the identity of the head: what is shared is compared once
        for message in messages:
            shared = id(message.head), message.decrypted
            row = rows.get(shared)
            if row is None:
                row = rows[shared] = known.setdefault((message.head, message.decrypted), len(contents))
                if row == len(contents):
                    contents.append(message)
            content.append(row)
        order = np.argsort(flow, kind="stable")
        return cls(flow[order], frame[order], np.array(content, np.int64)[order], tuple(contents))

    @cached_property
    def _is_request(self) -> Mask:
        return np.array([bool(message.method) for message in self.contents], bool)

    def requests(self, test: Test | None = None) -> I64:
        """Rows of the requests for which `test` holds, ascending; of all if there is none."""
        return self._rows(self._is_request, test)

    def responses(self, test: Test | None = None) -> I64:
        """Rows of the responses likewise."""
        return self._rows(~self._is_request, test)

    def _rows(self, kind: Mask, test: Test | None) -> I64:
        if test is not None:
            kind = kind & np.array([bool(test(message)) for message in self.contents], bool)
        return np.flatnonzero(kind[self.content]) if kind.any() else np.empty(0, np.int64)

    def sequences(self, rows: I64) -> tuple[list[list[HttpMessage]], I64, I64]:
        """What was said one after the other.

        Parameters
        ----------
        rows : (R,) int64
            Messages that count, ascending.

        Returns
        -------
        sequences : list of list of HttpMessage
            Each that there is, once.
        flow, sequence : (K,) int64
            The flows that `rows` belong to, and the sequence of each.
        """
        flow, content = self.flow[rows], self.content[rows].astype(np.int32)
        start = np.flatnonzero(np.diff(flow, prepend=-1))
        octets, width = content.tobytes(), content.itemsize
        bounds = [*(start * width).tolist(), len(octets)]
        known: dict[bytes, int] = {}
        row_of = known.setdefault
        sequence = [row_of(octets[a:b], len(known)) for a, b in pairwise(bounds)]
        sequences = [[self.contents[row] for row in np.frombuffer(key, np.int32).tolist()] for key in known]
        return sequences, flow[start], np.array(sequence, np.int64)
