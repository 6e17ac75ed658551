"""What one or several recordings gave: results that are made apart, anywhere, and joined in any grouping and order.

Recordings share no connection and nothing that is remembered between packets, so each is read by itself. Its flows,
frames, captures and vantage points are numbered from 0, and go on from one recording to the next only when results are
joined: which process read what, and which was ready first, leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analyzer.assembly import Assembled, join
from analyzer.capture.inventory import Inventory
from analyzer.ledger import CaptureBook


@dataclass(frozen=True, slots=True)
class Partial:
    """The result of consecutive recordings.

    Attributes
    ----------
    first, count : int
        Which recordings of the input, and how many.
    assembled : Assembled
    inventory : Inventory
    books : tuple of CaptureBook
        Of the captures in ``inventory.origins``.
    left_out : int
        About how many flows came past the limit.
    """

    first: int
    count: int
    assembled: Assembled
    inventory: Inventory
    books: tuple[CaptureBook, ...]
    left_out: int


def merge(partials: Iterable[Partial]) -> list[Partial]:
    """Join results that are neighbours; what is returned is in order, and one where nothing is missing.

    Merging is associative and commutative: whatever is merged first, the same comes of it.
    """
    runs: list[list[Partial]] = []
    for partial in sorted(partials, key=lambda p: p.first):
        if runs and runs[-1][-1].first + runs[-1][-1].count == partial.first:
            runs[-1].append(partial)
        else:
            runs.append([partial])
    return [_joined(run) if len(run) > 1 else run[0] for run in runs]


def _joined(run: Sequence[Partial]) -> Partial:
    inventories = [partial.inventory for partial in run]
    return Partial(
        run[0].first,
        sum(partial.count for partial in run),
        join(
            [partial.assembled for partial in run],
            [inventory.frames for inventory in inventories],
            [len(inventory.vantages) for inventory in inventories],
        ),
        Inventory.joined(inventories),
        tuple(book for partial in run for book in partial.books),
        sum(partial.left_out for partial in run),
    )
