"""Handing over what one thread takes in to another that polls: in order, and no more of it than there is room for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

_Item = TypeVar("_Item")


class HandOver(Generic[_Item]):
    """A queue between one thread that fills it and one that takes from it.

    Parameters
    ----------
    size : callable
        Octets of an item.
    room : int
        Octets that wait at most, and one item more: beyond that the filling thread waits.
    """

    def __init__(self, size: Callable[[_Item], int], room: int) -> None:
        self._size: Final = size
        self._room: Final = room
        self._changed: Final = threading.Condition()
        self._items: deque[_Item] = deque()
        self._held = 0
        self._finished = self._closed = False
        self._deadline: float | None = None
        self._error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Nothing waits and nothing will come; an error that was not raised yet comes first."""
        with self._changed:
            return self._is_over() and not self._items and self._error is None

    @property
    def closed(self) -> bool:
        """Nobody wants more."""
        return self._closed

    def fill(self, items: Iterable[_Item]) -> None:
        """Hand over one item after the other until they end or nobody wants more (the filling thread).

        What `items` raises is raised by `take`, behind what was handed over before it.
        """
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def take(self, timeout_s: float) -> _Item | None:
        """Return the oldest item, or None when none came in time."""
        with self._changed:
            if not self._is_over():
                left = timeout_s if self._deadline is None else min(timeout_s, self._deadline - time.monotonic())
                self._changed.wait_for(lambda: bool(self._items) or self._finished, max(left, 0.0))
            if not self._items:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                return None
            item = self._items.popleft()
            self._held -= self._size(item)
            self._changed.notify_all()
            return item

    def end_within(self, seconds: float) -> None:
        """Take in nothing that comes later than that; the first call counts."""
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + seconds

    def close(self) -> None:
        """Say that nobody wants more; what waits can still be taken."""
        with self._changed:
            self._closed = self._finished = True
            self._changed.notify_all()

    def _put(self, item: _Item) -> bool:
        """Add an item, and wait until there is room for another; False where nobody wants more."""
        with self._changed:
            if self._closed or self._is_late():
                return False
            self._items.append(item)
            self._held += self._size(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._held < self._room or self._closed)
            return not self._closed

    def _is_over(self) -> bool:
        return self._finished or self._is_late()

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline
