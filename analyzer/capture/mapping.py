"""The rings of all interfaces in one stretch of addresses, so that one array of octets covers every captured frame."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from analyzer.schema import U8

_MAP_FIXED: Final = 0x10
_FAILED: Final = ctypes.c_void_p(-1).value


class _Held:
    """Unmaps a stretch when the last array over it is gone: a chunk that somebody still holds never dangles."""

    def __init__(self, address: int, size: int) -> None:
        self._address: Final = address
        self._size: Final = size
        self._unmap: Final = _libc().munmap

    def __del__(self) -> None:
        self._unmap(self._address, self._size)


def map_together(files: Sequence[tuple[int, int]]) -> U8:
    """Map files one behind the other: (sum of sizes,) uint8, writable.

    A ring that is mapped goes on to exist when its socket is closed, until the array and its views are gone.

    Parameters
    ----------
    files : sequence of (int, int)
        Descriptor, and octets to map: a multiple of the page size.

    Raises
    ------
    OSError
        A file cannot be mapped.
    """
    libc = _libc()
    whole = sum(size for _, size in files)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = _mapped(libc.mmap(None, whole, 0, private, -1, 0))
    buffer = (ctypes.c_uint8 * whole).from_address(address)
    buffer.held = _Held(address, whole)  # type: ignore[attr-defined]
    protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED
    for descriptor, size in files:
        _mapped(libc.mmap(address, size, protection, flags, descriptor, 0))
        address += size
    octets: U8 = np.ctypeslib.as_array(buffer)
    return octets


def _mapped(address: int | None) -> int:
    if address is None or address == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return address


def _libc() -> Any:  # noqa: ANN401
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
