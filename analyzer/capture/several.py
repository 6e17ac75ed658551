"""Any number of captures as one input: files, folders, patterns, rotated sets, archives, pipes.

Captures are read one after the other, those of one recording in order of time, and each chunk says which capture and
which vantage point it is of. What a folder or an archive holds besides captures is named and skipped; a capture that is
damaged, or cannot be opened, costs nothing of the others.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Final, Self

import numpy as np

from analyzer.capture.archive import read_members
from analyzer.capture.growing import parse_address
from analyzer.capture.series import TOLERANCE_NS, labels, natural_key, series_key, signature
from analyzer.capture.source import FileReader, Opening, TarStream, open_octets, open_source
from analyzer.errors import CaptureFormatError, InputError, PlanewireError
from analyzer.schema import CaptureChunk, CaptureOrigin, Damage, Interface, Skipped, VantagePoint

MAX_FILES: Final = 100_000
"""Files looked at in folders and archives of one run."""
MAX_SKIPPED: Final = 1000
"""Skipped files kept by name; past it they are counted."""
MAX_NESTING: Final = 3
"""Archives inside archives that are opened."""
MAX_PASSES: Final = 32
"""Times a compressed archive is read from its start, where the captures in it do not lie in order of time."""
MAX_CAPTURES: Final = 4096
"""Captures of one run that get a vantage point of their own (`flows.MAX_VANTAGES`)."""
_PROBE_OCTETS: Final = 1 << 16

_Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One argument of the command line.

    Attributes
    ----------
    path : str
        A capture, a folder, a pattern, an archive, ``-`` or ``tcp://host:port``.
    node : str
        Name of the vantage point, where the user gave one.
    """

    path: str
    node: str = ""


@dataclass(slots=True)
class _Capture:
    """A capture to be read."""

    name: str
    node: str
    named: bool
    open: Callable[[], FileReader]
    first_ns: int | None = None
    interfaces: tuple[tuple[int, str], ...] = ()
    probed: bool = True
    size: int = 0


@dataclass(slots=True)
class _Vantage:
    """A vantage point while it is read."""

    series: str
    node: str
    interfaces: tuple[tuple[int, str], ...]
    captures: list[int] = field(default_factory=list)
    last_ns: int = 0
    assumed: str = ""


class CaptureSet:
    """A `schema.CaptureReader` over several captures; see `open_captures`. It can be iterated once.

    Attributes
    ----------
    origins : list of CaptureOrigin
        The captures read so far, in the order that ``CaptureChunk.capture`` counts.
    skipped : list of Skipped
        What was found and not analysed, at most `MAX_SKIPPED`; ``skipped_count`` counts all.
    size : int or None
        Octets of all inputs, before decompression; None where it is not known (pipes).
    """

    def __init__(
        self,
        name: str,
        captures: Iterable[_Capture],
        skips: _Skips,
        *,
        size: int | None,
        first: FileReader | None = None,
        closers: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.name = name
        self.format = first.format if first is not None else "several"
        self.interfaces: list[Interface] = first.interfaces if first is not None else []
        self.damage: list[Damage] = first.damage if first is not None else []
        self.secrets: list[bytes] = first.secrets if first is not None else []
        self.names: list[tuple[str, str]] = first.names if first is not None else []
        self.comments: list[tuple[int, str]] = first.comments if first is not None else []
        self.origins: list[CaptureOrigin] = []
        self.skipped: list[Skipped] = skips.kept
        self.size: int | None = size
        self._skips: Final = skips
        self._closers: Final = closers
        self._captures: Final = captures
        self._only: Final = first
        self._reading: FileReader | None = first
        self._done_octets = 0
        self._vantages: list[_Vantage] = []
        self._chunks: Final = self._read()

    @property
    def octets_read(self) -> int:
        """Octets of all inputs read so far, before decompression."""
        return self._done_octets + (self._reading.octets_read if self._reading is not None else 0)

    @property
    def skipped_count(self) -> int:
        """Files that were found and not analysed."""
        return self._skips.count

    @property
    def vantages(self) -> list[VantagePoint]:
        """The vantage points, in the order that ``CaptureChunk.vantage`` counts; complete after the iteration."""
        names = labels([[self.origins[c].name for c in v.captures] for v in self._vantages])
        if len(self._vantages) == 1:
            names = [""]
        return [
            VantagePoint(v.node or name, tuple(v.captures), bool(v.node), v.assumed)
            for v, name in zip(self._vantages, names, strict=True)
        ]

    def __iter__(self) -> Iterator[CaptureChunk]:
        return self._chunks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; iteration ends."""
        self._chunks.close()
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        for close in self._closers:
            close()

    # ------------------------------------------------------------------------------------------ reading

    def _read(self) -> Generator[CaptureChunk, None, None]:
        read_to = 0
        for capture in self._captures:
            try:
                reader = self._only or capture.open()
            except PlanewireError as error:
                self._skips.add(capture.name, _reason(error), named=capture.named)
                continue
            self._reading = reader
            read_to = yield from self._read_one(capture, reader, read_to)
            self._done_octets += reader.octets_read
            self._reading = None
            reader.close()
        if not self.origins:
            raise _nothing(self.name, self._skips)

    def _read_one(self, capture: _Capture, reader: FileReader, before: int) -> Generator[CaptureChunk, None, int]:
        """Yield the chunks of one capture; returns the number of frames of all captures so far."""
        number, vantage = len(self.origins), -1
        shared = _Shared(self, reader) if self._only is None else None
        frames = before
        last_ns = 0
        for chunk in reader:
            if vantage < 0:
                timed = chunk.time_ns[chunk.time_ns > 0]
                vantage = self._place(capture, reader, number, int(timed[0]) if timed.shape[0] else None)
            if shared is not None:
                last_ns = max(last_ns, int(chunk.time_ns.max()))
            if shared is not None:
                chunk = shared.adopt(chunk, before, number, vantage)
            frames += len(chunk)
            yield chunk
        if vantage < 0:
            vantage = self._place(capture, reader, number, None)
        if shared is not None:
            shared.collect(before)
        place = self._vantages[vantage]
        place.last_ns = max(place.last_ns, last_ns)
        self.origins.append(
            CaptureOrigin(
                capture.name,
                reader.format,
                reader.octets_read,
                before,
                vantage,
                tuple(reader.interfaces),
                tuple(reader.damage),
                tuple(reader.comments),
            )
        )
        return frames

    def _place(self, capture: _Capture, reader: FileReader, number: int, first_ns: int | None) -> int:
        """Vantage point of a capture that begins at `first_ns`: one it goes on with, or a new one."""
        series = f"{capture.node}\0{series_key(capture.name)}" if not capture.node else f"{capture.node}\0"
        kinds = signature(reader.interfaces)
        mates = [row for row, v in enumerate(self._vantages) if v.series == series]
        for row in mates:
            vantage = self._vantages[row]
            follows = first_ns is None or first_ns >= vantage.last_ns - TOLERANCE_NS
            if follows and (vantage.interfaces == kinds or not kinds):
                vantage.captures.append(number)
                vantage.assumed = (
                    "the user named them one vantage point, and they follow each other in time"
                    if capture.node
                    else "their names differ only by numbers, and they follow each other in time: one rotated recording"
                )
                return row
        if len(self._vantages) >= MAX_CAPTURES:
            self._vantages[-1].captures.append(number)
            self._vantages[-1].assumed = f"more than {MAX_CAPTURES} vantage points: the last ones are taken as one"
            return len(self._vantages) - 1
        assumed = ""
        if mates:
            same = [row for row in mates if self._vantages[row].interfaces == kinds]
            assumed = "it overlaps in time with" if same else "its interfaces differ from those of"
            assumed += " other captures of the same name"
            if capture.node:
                assumed = f"{assumed.removesuffix(' of the same name')} of this vantage point: each kept apart"
        elif self._only is None and not capture.node:
            assumed = "its name differs from the others': taken as a vantage point of its own"
        self._vantages.append(_Vantage(series, capture.node, kinds, [number], 0, assumed))
        return len(self._vantages) - 1


class _Shared:
    """Makes one capture's chunks and facts part of the whole input's."""

    def __init__(self, whole: CaptureSet, reader: FileReader) -> None:
        self._whole: Final = whole
        self._reader: Final = reader
        self._rows: list[int] = []
        self._comments = self._secrets = self._names = 0

    def adopt(self, chunk: CaptureChunk, before: int, capture: int, vantage: int) -> CaptureChunk:
        """The chunk with frames and interfaces numbered through the whole input."""
        self.collect(before)
        rows = np.array(self._rows, np.int32)
        return replace(
            chunk,
            interface=rows[chunk.interface] if rows.shape[0] else chunk.interface,
            first_frame=chunk.first_frame + before,
            capture=capture,
            vantage=vantage,
        )

    def collect(self, before: int) -> None:
        """Take over what the capture has said so far; equal interfaces are one."""
        whole, reader = self._whole, self._reader
        for interface in reader.interfaces[len(self._rows) :]:
            plain = replace(interface, received=None, dropped=None)
            if plain not in whole.interfaces:
                whole.interfaces.append(plain)
            self._rows.append(whole.interfaces.index(plain))
        for frame, text in reader.comments[self._comments :]:
            whole.comments.append((frame + before if frame else 0, text))
        whole.secrets += reader.secrets[self._secrets :]
        whole.names += reader.names[self._names :]
        self._comments, self._secrets = len(reader.comments), len(reader.secrets)
        self._names = len(reader.names)


class _Skips:
    """What was found and not analysed."""

    def __init__(self) -> None:
        self.kept: list[Skipped] = []
        self.count = 0

    def add(self, name: str, reason: str, *, named: bool = False) -> None:
        self.count += 1
        if len(self.kept) < MAX_SKIPPED:
            self.kept.append(Skipped(name, reason, named))


def _reason(error: PlanewireError) -> str:
    if isinstance(error, CaptureFormatError):
        return error.reason
    return error.reason if isinstance(error, InputError) else str(error)


# -------------------------------------------------------------------------------------------- planning


def open_captures(sources: Sequence[Source], opening: Opening | None = None) -> CaptureSet:
    """Find the captures that `sources` name and put them in order.

    Parameters
    ----------
    sources : sequence of Source
        At least one.
    opening : Opening, optional

    Returns
    -------
    CaptureSet
        Close it, or use it as a context manager.

    Raises
    ------
    InputError
        Nothing that was named can be opened, or nothing of it is a capture.
    CaptureFormatError
        The one file named is not a capture.
    """
    opening = opening or Opening()
    if len(sources) == 1 and not _has_several(sources[0].path):
        path = sources[0].path
        found = open_source(path, open_octets(path, opening), opening)
        if not isinstance(found, TarStream):
            capture = _Capture(path, sources[0].node, True, lambda: found)
            return CaptureSet(path, [capture], _Skips(), size=found.size, first=found)
        if not os.path.isfile(path):
            return _read_streamed(sources[0], found, opening)
        found.source.close()
    planner = _Planner(opening)
    for source in sources:
        planner.add(source)
    captures = planner.in_order()
    name = sources[0].path if len(sources) == 1 else f"{len(sources)} inputs"
    if not captures:
        raise _nothing(name, planner.skips)
    size = sum(c.size for c in captures) if all(c.probed for c in captures) else None
    return CaptureSet(name, captures, planner.skips, size=size, closers=planner.closers)


def _has_several(path: str) -> bool:
    return os.path.isdir(path) or (glob.has_magic(path) and not os.path.lexists(path))


def _nothing(name: str, skips: _Skips) -> PlanewireError:
    """Say why no capture was found at all."""
    if not skips.kept:
        return InputError(name, "no file in it; name captures, or a folder or archive that holds some")
    first = skips.kept[0]
    if skips.count == 1:
        return InputError(first.name, first.reason)
    return InputError(name, f"none of the {skips.count} files is a capture; the first, {first.name}: {first.reason}")


class _Planner:
    """Collects captures and what is known of each before it is read."""

    def __init__(self, opening: Opening) -> None:
        self.skips: Final = _Skips()
        self._opening: Final = opening
        self._quick: Final = replace(opening, chunk_octets=_PROBE_OCTETS)
        self._captures: list[_Capture] = []
        self._seen: set[tuple[int, int]] = set()
        self.closers: Final[list[Callable[[], None]]] = []
        self._files = 0

    def add(self, source: Source) -> None:
        """Take in one argument."""
        if parse_address(source.path) is not None or source.path == "-":
            self._add_stream(source.path, source.node)
        elif os.path.isdir(source.path):
            self._add_folder(source)
        elif glob.has_magic(source.path) and not os.path.lexists(source.path):
            matches = sorted(glob.glob(source.path, recursive=True), key=natural_key)
            if not matches:
                raise InputError(source.path, "no file matches")
            for path in matches:
                if os.path.isdir(path):
                    self._add_folder(replace(source, path=path))
                else:
                    self._add_file(path, source.node, named=False)
        else:
            self._add_file(source.path, source.node, named=True)

    def in_order(self) -> list[_Capture]:
        """The captures: recordings by their first packet, and each one's files by theirs; pipes last."""
        groups: dict[tuple[str, str], list[_Capture]] = {}
        streams = [capture for capture in self._captures if not capture.probed]
        for capture in self._captures:
            if capture.probed:
                key = (capture.node, "" if capture.node else series_key(capture.name))
                groups.setdefault(key, []).append(capture)
        ordered: list[list[_Capture]] = []
        for group in groups.values():
            # A file without a packet has no time: its name puts it behind those of the same recording that have.
            group.sort(key=lambda c: (c.first_ns is None, c.first_ns or 0, natural_key(c.name)))
            ordered.append(group)
        ordered.sort(key=lambda g: (g[0].first_ns is None, g[0].first_ns or 0, natural_key(g[0].name)))
        return [capture for group in ordered for capture in group] + streams

    def _add_stream(self, path: str, node: str) -> None:
        def start() -> FileReader:
            found = open_source(path, open_octets(path, self._opening), self._opening)
            if isinstance(found, TarStream):
                found.source.close()
                raise CaptureFormatError(path, 0, "an archive in a pipe is read only where it is the one input")
            return found

        self._captures.append(_Capture(path, node, True, start, probed=False))

    def _add_folder(self, source: Source) -> None:
        def refused(error: OSError) -> None:
            self.skips.add(str(error.filename), error.strerror or "cannot be read")

        for folder, folders, files in os.walk(source.path, onerror=refused):
            folders.sort(key=natural_key)
            for name in sorted(files, key=natural_key):
                self._add_file(os.path.join(folder, name), source.node, named=False)

    def _add_file(self, path: str, node: str, *, named: bool) -> None:
        self._files += 1
        if self._files > MAX_FILES:
            self.skips.add(path, f"more than {MAX_FILES} files", named=named)
            return
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            status = None  # opening it says what is wrong
        if status is not None and not stat.S_ISREG(status.st_mode):
            if named:
                self._add_stream(path, node)
            else:
                self.skips.add(path, "not a regular file")
            return
        if status is not None:
            same = (status.st_dev, status.st_ino)
            if same in self._seen:
                if named:
                    self.skips.add(path, "the same file as one before it", named=False)
                return
            self._seen.add(same)
        try:
            found = open_source(path, open_octets(path, self._quick), self._quick)
        except PlanewireError as error:
            self.skips.add(path, _reason(error), named=named)
            return
        if isinstance(found, TarStream):
            self._add_archive(path, node, found)
            return
        with found as reader:
            first_ns, kinds = _probe(reader)
        size = status.st_size if status is not None else 0

        def start() -> FileReader:
            again = open_source(path, open_octets(path, self._opening), self._opening)
            if isinstance(again, TarStream):
                raise CaptureFormatError(path, 0, "the file changed while it was read")
            return again

        self._captures.append(_Capture(path, node, named, start, first_ns, kinds, size=size))

    def _add_archive(self, path: str, node: str, found: TarStream) -> None:
        archive = _Archive(path, self._opening)
        self.closers.append(archive.close)
        any_capture = False
        for key, name, member in _walk(path, found, self._quick, self.skips, 1):
            self._files += 1
            if self._files > MAX_FILES:
                self.skips.add(path, f"more than {MAX_FILES} files: the rest of the archive is left out")
                break
            first_ns, kinds = _probe(member)
            start = archive.opener(key)
            size = 0 if any_capture else os.path.getsize(path)
            any_capture = True
            self._captures.append(_Capture(name, node, False, start, first_ns, kinds, size=size))
        found.source.close()


def _probe(reader: FileReader) -> tuple[int | None, tuple[tuple[int, str], ...]]:
    """Time of the first frame that has one, within the first chunk, and the interfaces there."""
    first_ns = None
    for chunk in reader:
        timed = chunk.time_ns[chunk.time_ns > 0]
        first_ns = int(timed[0]) if timed.shape[0] else None
        break
    return first_ns, signature(reader.interfaces)


# -------------------------------------------------------------------------------------------- archives


def _walk(
    name: str, stream: TarStream, opening: Opening, skips: _Skips, depth: int
) -> Generator[tuple[_Key, str, FileReader], None, None]:
    """Yield every capture of an archive, archives inside it included, each valid until the next is asked for."""
    problems: list[str] = []
    number = -1
    for number, (member, content) in enumerate(read_members(stream.source, problems.append)):
        full = f"{name}:{member}"
        if content is None:
            skips.add(full, "a sparse file: unpack the archive to read it")
            continue
        try:
            found = open_source(full, content, opening)
        except PlanewireError as error:
            skips.add(full, _reason(error))
            continue
        if not isinstance(found, TarStream):
            yield (number,), full, found
        elif depth >= MAX_NESTING:
            skips.add(full, f"archives nested more than {MAX_NESTING} deep")
        else:
            for key, inner, reader in _walk(full, found, opening, skips, depth + 1):
                yield (number, *key), inner, reader
    for problem in problems[:1]:
        skips.add(name, f"{problem} (after {number + 1} files)", named=True)


class _Archive:
    """An archive whose captures are opened by their place in it, forwards as far as possible."""

    def __init__(self, path: str, opening: Opening) -> None:
        self._path: Final = path
        self._opening: Final = opening
        self._walker: Generator[tuple[_Key, str, FileReader], None, None] | None = None
        self._stream: TarStream | None = None
        self._at: _Key = ()
        self._passes = 0

    def opener(self, key: _Key) -> Callable[[], FileReader]:
        return lambda: self._open(key)

    def close(self) -> None:
        """Close the archive where it is open."""
        if self._stream is not None:
            self._stream.source.close()
            self._stream = None

    def _open(self, key: _Key) -> FileReader:
        if self._walker is None or self._at >= key:
            self._restart()
        assert self._walker is not None
        for at, _, reader in self._walker:
            self._at = at
            if at == key:
                return reader
        raise CaptureFormatError(self._path, 0, "the archive changed while it was read")

    def _restart(self) -> None:
        self._passes += 1
        if self._passes > MAX_PASSES:
            raise CaptureFormatError(
                self._path,
                0,
                f"its captures lie so far from the order of time that it would be read more than {MAX_PASSES} times: "
                "unpack it and name the folder",
            )
        self.close()
        found = open_source(self._path, open_octets(self._path, self._opening), self._opening)
        if not isinstance(found, TarStream):
            raise CaptureFormatError(self._path, 0, "the file changed while it was read")
        self._stream = found
        # What is skipped was told when the archive was first looked at.
        self._walker = _walk(self._path, found, self._opening, _Skips(), 1)
        self._at = ()


def _read_streamed(source: Source, stream: TarStream, opening: Opening) -> CaptureSet:
    """An archive in a pipe: its captures in the order it has them, for there is no second look."""
    skips = _Skips()

    def captures() -> Iterator[_Capture]:
        for _, name, reader in _walk(source.path, stream, opening, skips, 1):
            yield _Capture(name, source.node, False, partial(_itself, reader), probed=False)

    return CaptureSet(source.path, captures(), skips, size=None, closers=[stream.source.close])


def _itself(reader: FileReader) -> FileReader:
    return reader
