"""Write what is captured to a pcapng file, or to a ring of them.

Whole blocks go to the file as soon as they are there, without a buffer of this process: after ``kill -9`` every file
reads, at most the last block of the last file is cut. A disk that is full ends the writing and not the capture.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from analyzer.capture.pcapng_writer import interface_block, packet_blocks, section_block, statistics_block
from analyzer.errors import OutputError
from analyzer.schema import I64, NO_LINK, U8, CaptureChunk, Interface

STANDARD_OUTPUT: Final = "-"
_MODE: Final = 0o600
"""As dumpcap: captures hold credentials."""
_MAX_NUMBER: Final = 100_000
_STATISTICS_LEN: Final = len(statistics_block(0, Interface(0, 0, received=0, dropped=0), 0))
"""Octets of the statistics of one interface at most."""


class RotatingWriter:
    """A pcapng file, or one after the other.

    Parameters
    ----------
    path : str
        With `rotate_octets`, the files are called as dumpcap calls them: ``ring.pcapng`` gives
        ``ring_00001_20261125143619.pcapng`` (UTC). Without, the first is `path` itself, which is overwritten.
    rotate_octets : int, optional
        No file is made longer than that, if more than one frame is in it.
    keep : int, optional
        Files that are kept; older ones which this writer made are deleted. None = all.
    application : str
        Who writes.

    Attributes
    ----------
    problem : str
        Why nothing is written at present; empty while all is well.
    files : list of Path
        What was made and is still there, in order.
    frames, octets : int
        Written so far.

    Raises
    ------
    OutputError
        The first file cannot be made.
    """

    def __init__(
        self, path: str, *, rotate_octets: int | None = None, keep: int | None = None, application: str = "planewire"
    ) -> None:
        self.problem = ""
        self.files: list[Path] = []
        self.frames = self.octets = 0
        self._path: Final = Path(path)
        self._rotate_octets: Final = rotate_octets
        self._keep: Final = keep
        self._application: Final = application
        self._interfaces: Sequence[Interface] = ()
        self._described = 0  # interfaces in the current file
        self._number = 0
        self._descriptor: int | None = None
        self._size = self._in_file = 0
        try:
            self._open(self._path if rotate_octets is None else None)
        except OSError as error:
            raise OutputError(path, error.strerror or "cannot be written") from None

    def add(self, chunk: CaptureChunk, interfaces: Sequence[Interface]) -> None:
        """Write the frames of a chunk; `interfaces` are those of its source."""
        self._interfaces = interfaces
        if self._descriptor is None:
            return
        real = chunk.link_type != NO_LINK
        octets, end = packet_blocks(chunk if bool(real.all()) else chunk.take(np.flatnonzero(real)))
        row = 0
        while row < end.shape[0] and self._descriptor is not None:
            if self._in_file and self._room(self._interfaces[self._described :]) < 0:
                self.rotate()
                continue
            self._describe()
            begin = int(end[row - 1]) if row else 0
            stop = end.shape[0]
            if self._rotate_octets is not None:
                stop = int(np.searchsorted(end, begin + self._room(), side="right"))
                if stop <= row:
                    if self._in_file:
                        self.rotate()
                        continue
                    stop = row + 1
            self._write(octets[begin : int(end[stop - 1])], end[row:stop] - begin)
            row = stop

    def rotate(self) -> None:
        """Close the file and begin the next one; after a `problem`, try again."""
        self._finish()
        self.problem = ""
        try:
            # Whoever moved the file away wants a new one in its place.
            same_name = self._rotate_octets is None and not os.path.lexists(self._path)
            self._open(self._path if same_name else None)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """End the file; statistics of the interfaces are as they were told last."""
        self._finish()

    def _open(self, path: Path | None) -> None:
        """Make a file of this name, or of the next free one of the series."""
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._number += 1
        if path is not None and str(path) == STANDARD_OUTPUT:
            self._descriptor = os.dup(1)
        elif path is not None:
            self._descriptor = os.open(path, flags | os.O_TRUNC, _MODE)
        else:
            path, self._descriptor = self._open_next(flags | os.O_EXCL)
        self.files.append(path)
        self._size = self._in_file = self._described = 0
        self._write_block(section_block(application=self._application))
        if self._interfaces:
            self._describe()
        while self._keep is not None and len(self.files) > max(self._keep, 1):
            with suppress(OSError):
                self.files[0].unlink()
            del self.files[0]

    def _open_next(self, flags: int) -> tuple[Path, int]:
        """Make the next file of the series; one that is there already is never touched."""
        while True:
            stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime())
            name = f"{self._path.stem}_{self._number % _MAX_NUMBER:05d}_{stamp}{self._path.suffix}"
            path = self._path.with_name(name)
            try:
                return path, os.open(path, flags, _MODE)
            except FileExistsError:
                self._number += 1

    def _room(self, coming: Sequence[Interface] = ()) -> int:
        """Octets that packets may still take in a file in which each interface has its statistics at the end."""
        if self._rotate_octets is None:
            return 0
        taken = self._size + sum(len(interface_block(interface)) for interface in coming)
        return self._rotate_octets - taken - (self._described + len(coming)) * _STATISTICS_LEN

    def _describe(self) -> None:
        """Write the description of each interface that the file does not have yet."""
        for interface in self._interfaces[self._described :]:
            self._write_block(interface_block(interface))
            self._described += 1

    def _finish(self) -> None:
        """Write the statistics, and close."""
        if self._descriptor is None:
            return
        now = time.time_ns()
        for number, interface in enumerate(self._interfaces[: self._described]):
            if interface.received is not None or interface.dropped is not None:
                self._write_block(statistics_block(number, interface, now))
        self._close()

    def _write_block(self, block: bytes) -> None:
        """Write one block that is no packet."""
        octets: U8 = np.frombuffer(block, np.uint8)
        self._write(octets, np.empty(0, np.int64))

    def _write(self, octets: U8, end: I64) -> None:
        """Write blocks, packets of which end at `end`; where that fails, what was written of the last one goes."""
        if self._descriptor is None:
            return
        view, written = octets.data, 0
        try:
            while written < len(view):
                written += os.write(self._descriptor, view[written:])
        except OSError as error:
            whole = int(np.searchsorted(end, written, side="right"))
            self._size += int(end[whole - 1]) if whole else 0
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            self._note(whole, int(end[whole - 1]) if whole else 0)
            self._fail(error)
            return
        self._size += len(view)
        self._note(end.shape[0], len(view))

    def _note(self, frames: int, octets: int) -> None:
        self.frames += frames
        self._in_file += frames
        self.octets += octets

    def _fail(self, error: OSError) -> None:
        name = self.files[-1] if self.files else self._path
        what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or "cannot be written"
        self.problem = (
            f"{name}: {what}: nothing is written after frame {self.frames} of those written; the capture goes on, "
            "and SIGHUP begins a new file"
        )
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
