"""Capabilities of this thread (capabilities(7)): Linux's parts of root's rights, one bit each.

A container that runs as another user than root has CAP_NET_RAW at most as a *permitted* capability, from the file of
its interpreter; it has to be made *effective* while it is used.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

DAC_OVERRIDE: Final = 1 << 1
SETGID: Final = 1 << 6
SETUID: Final = 1 << 7
NET_RAW: Final = 1 << 13

_VERSION_3: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 (linux/capability.h)."""
_SETS: Final = struct.Struct("=6I")
"""Effective, permitted and inheritable of capabilities 0 to 31, then of 32 to 63."""


def held() -> tuple[int, int]:
    """Effective and permitted capabilities; none where the system knows none."""
    effective, permitted, _ = _get()
    return effective, permitted


def keep(kept: int) -> bool:
    """Give up every capability but those in `kept` that are permitted; whether the system could."""
    _, permitted, _ = _get()
    return _set(kept & permitted, kept & permitted, 0)


def of_threads() -> dict[int, int]:
    """Capabilities, effective or permitted, of each thread of this process by its number; none where no ``/proc`` is.

    A thread can give up its own alone: those that a library started earlier keep theirs.
    """
    found = {}
    for status in Path("/proc/self/task").glob("[0-9]*/status"):
        with suppress(OSError, KeyError, ValueError):  # a thread may end meanwhile
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            found[int(status.parent.name)] = int(fields["CapEff"], 16) | int(fields["CapPrm"], 16)
    return found


@contextmanager
def raised(wanted: int) -> Iterator[None]:
    """Make the capabilities in `wanted` effective meanwhile, those of them that are permitted."""
    effective, permitted, inheritable = _get()
    raises = wanted & permitted & ~effective
    if raises:
        _set(effective | raises, permitted, inheritable)
    try:
        yield
    finally:
        if raises:
            _set(effective, permitted, inheritable)


def _libc() -> ctypes.CDLL | None:
    if os.name != "posix":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return libc if hasattr(libc, "capget") and hasattr(libc, "capset") else None


def _header() -> bytes:
    return struct.pack("=Ii", _VERSION_3, 0)


def _get() -> tuple[int, int, int]:
    libc = _libc()
    sets = ctypes.create_string_buffer(_SETS.size)
    if libc is None or libc.capget(_header(), sets) != 0:
        return 0, 0, 0
    low = _SETS.unpack(sets.raw)
    return low[0] | low[3] << 32, low[1] | low[4] << 32, low[2] | low[5] << 32


def _set(effective: int, permitted: int, inheritable: int) -> bool:
    libc = _libc()
    words = [value >> shift & 0xFFFFFFFF for shift in (0, 32) for value in (effective, permitted, inheritable)]
    return libc is not None and libc.capset(_header(), _SETS.pack(*words)) == 0
