"""Any number of captures as one input: files, folders, patterns, rotated sets, archives, pipes.

Captures are read one after the other, those of one recording in order of time, and each chunk says which capture and
which vantage point it is of. What a folder or an archive holds besides captures is named and skipped; a capture that is
damaged, or cannot be opened, costs nothing of the others. Recordings share nothing, so that each can also be read by
itself, in any order and anywhere.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from analyzer.capture.growing import parse_address
from analyzer.capture.inventory import Inventory, Vantage
from analyzer.capture.members import Archive, Key, Skips, reason_given, walk
from analyzer.capture.remote import RemoteFile, find, is_url, shown
from analyzer.capture.series import TOLERANCE_NS, natural_key, series_key, signature
from analyzer.capture.source import FileReader, Opening, TarStream, open_octets, open_source
from analyzer.errors import CaptureFormatError, InputError, PlanewireError
from analyzer.schema import CaptureChunk, CaptureOrigin, Damage, Interface, Skipped, VantagePoint

MAX_FILES: Final = 100_000
"""Files looked at in folders and archives of one run."""
MAX_CAPTURES: Final = 4096
"""Captures of one recording that get a vantage point of their own (`flows.MAX_VANTAGES`)."""
_PROBE_OCTETS: Final = 1 << 16
_LOOKS: Final = 16
"""Files in a storage that are looked at together."""


@dataclass(frozen=True, slots=True)
class Source:
    """One argument of the command line.

    Attributes
    ----------
    path : str
        A capture, a folder, a pattern, an archive, ``-``, ``tcp://host:port``, or the address of any of the first four
        in a storage (``s3://bucket/node-*/*.pcap.gz``).
    node : str
        Name of the vantage point, where the user gave one.
    """

    path: str
    node: str = ""


@dataclass(slots=True)
class Capture:
    """A capture to be read.

    ``open`` is asked with the number of processes that may read it, None for as many as the run was given; where it can
    be sent to another process, the capture can be read there (pipes cannot).
    """

    name: str
    node: str
    named: bool
    open: Callable[[int | None], FileReader]
    first_ns: int | None = None
    interfaces: tuple[tuple[int, str], ...] = ()
    probed: bool = True
    size: int = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """Captures that may go on with each other's connections, in order; no other recording is needed to read it."""

    captures: tuple[Capture, ...]

    @property
    def size(self) -> int:
        """Octets of its files, before decompression."""
        return sum(capture.size for capture in self.captures)

    @property
    def portable(self) -> bool:
        """Whether another process can read it: it is made of files, not of pipes."""
        return all(capture.probed for capture in self.captures)

    def open(self, workers: int | None = None) -> CaptureSet:
        """A reader of these captures alone, numbered from 0, that may have no capture at all."""
        name = self.captures[0].name if self.captures else ""
        return CaptureSet(name, self.captures, Skips(), size=self.size, part=True, workers=workers)


@dataclass(frozen=True, slots=True)
class Portion:
    """Recordings to be read one after the other, each with its place among all of the input."""

    recordings: tuple[tuple[int, Recording], ...]

    @property
    def size(self) -> int:
        """Octets of its files, before decompression."""
        return sum(recording.size for _, recording in self.recordings)

    @property
    def portable(self) -> bool:
        """Whether another process can read it."""
        return all(recording.portable for _, recording in self.recordings)


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
    portions : sequence of Portion
        The same captures in parts that can be read apart; none where there is but one part, this reader.
    leading_secrets : sequence of bytes
        Decryption secrets that stand at the beginning of any of the captures (pcapng), where several are read: they are
        for all. Further ones are for the recording that holds them.
    """

    def __init__(
        self,
        name: str,
        captures: Iterable[Capture],
        skips: Skips,
        *,
        portions: Sequence[Portion] = (),
        size: int | None,
        first: FileReader | None = None,
        closers: Sequence[Callable[[], None]] = (),
        secrets: Sequence[bytes] = (),
        part: bool = False,
        workers: int | None = None,
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
        self.portions: Final = portions
        self.leading_secrets: Final = secrets
        self._part: Final = part
        self._workers: Final = workers
        self._only: Final = first
        self._reading: FileReader | None = first
        self._done_octets = 0
        self._frames = 0
        self._vantages: list[Vantage] = []
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
        return self.inventory.vantage_points()

    @property
    def inventory(self) -> Inventory:
        """What was read; complete after the iteration."""
        return Inventory(
            self._frames,
            self.origins,
            self._vantages,
            self.skipped,
            self.skipped_count,
            list(dict.fromkeys(self.names)),
        )

    def nothing(self, inventory: Inventory) -> PlanewireError:
        """Say why no capture was found at all."""
        return _nothing(self.name, inventory.skipped, inventory.skipped_count)

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
        for capture in self._captures:
            try:
                reader = self._only or capture.open(self._workers)
            except PlanewireError as error:
                self._skips.add(capture.name, reason_given(error), named=capture.named)
                continue
            self._reading = reader
            self._frames = yield from self._read_one(capture, reader, self._frames)
            self._done_octets += reader.octets_read
            self._reading = None
            reader.close()
        if not self.origins and not self._part:
            raise _nothing(self.name, self._skips.kept, self._skips.count)

    def _read_one(self, capture: Capture, reader: FileReader, before: int) -> Generator[CaptureChunk, None, int]:
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

    def _place(self, capture: Capture, reader: FileReader, number: int, first_ns: int | None) -> int:
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
        self._vantages.append(Vantage(series, capture.node, kinds, [number], 0, assumed))
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


# -------------------------------------------------------------------------------------------- planning


Mapper = Callable[[Callable[["Candidate"], "Examined"], Sequence["Candidate"]], Iterable["Examined"]]
"""Applies a function to each candidate, here or elsewhere, and gives the answers in order."""


def _one_by_one(examine: Callable[[Candidate], Examined], candidates: Sequence[Candidate]) -> Iterable[Examined]:
    if not any(isinstance(candidate.place, RemoteFile) for candidate in candidates):
        return map(examine, candidates)
    # Each look costs a storage's answers and hardly any time of this processor.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_LOOKS) as pool:
        return list(pool.map(examine, candidates))


def open_captures(
    sources: Sequence[Source], opening: Opening | None = None, mapper: Mapper = _one_by_one
) -> CaptureSet:
    """Find the captures that `sources` name and put them in order.

    Parameters
    ----------
    sources : sequence of Source
        At least one.
    opening : Opening, optional
    mapper : Mapper, optional
        Looks at many files at once, or from where they are.

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
    elsewhere = mapper is not _one_by_one and not _is_pipe(sources[0].path)
    if len(sources) == 1 and not elsewhere and not _has_several(sources[0].path):
        path = sources[0].path
        found = open_source(path, open_octets(path, opening), opening)
        if not isinstance(found, TarStream):
            capture = Capture(path, sources[0].node, True, lambda _: found)
            return CaptureSet(path, [capture], Skips(), size=found.size, first=found)
        if not os.path.isfile(path):
            return _read_streamed(sources[0], found, opening)
        found.source.close()
    planner = _Planner(opening, mapper)
    for source in sources:
        planner.add(source)
    planner.examine()
    recordings = planner.in_order()
    captures = [capture for recording in recordings for capture in recording.captures]
    name = shown(sources[0].path) if len(sources) == 1 else f"{len(sources)} inputs"
    if not captures:
        raise _nothing(name, planner.skips.kept, planner.skips.count)
    size = sum(c.size for c in captures) if all(c.probed for c in captures) else None
    return CaptureSet(
        name,
        captures,
        planner.skips,
        size=size,
        closers=[archive.close for archive in planner.archives],
        portions=_portions(recordings),
        secrets=planner.secrets,
    )


def _portions(recordings: Sequence[Recording]) -> list[Portion]:
    """Parts that can be read apart: a recording each, but those of one archive together, which is read once."""
    portions: list[list[int]] = []
    holder: dict[int, list[int]] = {}
    for number, recording in enumerate(recordings):
        archives = {id(archive) for c in recording.captures if (archive := _archive_of(c)) is not None}
        joined = [number]
        for known in {id(p): p for a in archives if (p := holder.get(a)) is not None}.values():
            joined = sorted(known + joined)
            portions.remove(known)
            archives |= {a for a, p in holder.items() if p is known}
        portions.append(joined)
        holder.update(dict.fromkeys(archives, joined))
    portions.sort()
    return [
        Portion(tuple((number, recordings[number]) for number in sorted(numbers, key=lambda n: _place(recordings[n]))))
        for numbers in portions
    ]


def _place(recording: Recording) -> tuple[str, Key]:
    """Where a recording lies in its archive: read in that order, it is read once, whatever the order of time."""
    return min(_place_of(capture) for capture in recording.captures)


def _archive_of(capture: Capture) -> Archive | None:
    return next((a for a in getattr(capture.open, "args", ()) if isinstance(a, Archive)), None)


def _place_of(capture: Capture) -> tuple[str, Key]:
    archive = _archive_of(capture)
    if archive is None:
        return "", ()
    return archive.name, next(a for a in getattr(capture.open, "args", ()) if isinstance(a, tuple))


def _is_pipe(path: str) -> bool:
    """Whether it can be read but once, and here alone."""
    return path == "-" or parse_address(path) is not None or (os.path.exists(path) and not os.path.isfile(path))


def _has_several(path: str) -> bool:
    if is_url(path) and parse_address(path) is None:
        return True
    return os.path.isdir(path) or (glob.has_magic(path) and not os.path.lexists(path))


def _nothing(name: str, skipped: Sequence[Skipped], count: int) -> PlanewireError:
    """Say why no capture was found at all."""
    if not skipped:
        return InputError(name, "no file in it; name captures, or a folder or archive that holds some")
    first = skipped[0]
    if count == 1:
        return InputError(first.name, first.reason)
    return InputError(name, f"none of the {count} files is a capture; the first, {first.name}: {first.reason}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be a capture, or an archive of captures."""

    name: str
    place: str | RemoteFile  #: where it is, whatever the working directory
    node: str
    named: bool
    size: int


@dataclass(frozen=True, slots=True)
class Examined:
    """What a candidate turned out to be.

    ``captures`` more than one of an archive; ``skipped`` what else is in it, or why it is no capture; ``secrets`` those
    at the beginning of the captures; ``archive`` what opens the captures, where there is one; ``more_skipped`` how many
    files are counted only.
    """

    captures: tuple[Capture, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    secrets: tuple[bytes, ...] = ()
    archive: Archive | None = None
    more_skipped: int = 0


class _Planner:
    """Collects captures and what is known of each before it is read."""

    def __init__(self, opening: Opening, mapper: Mapper) -> None:
        self.skips: Final = Skips()
        self.secrets: Final[list[bytes]] = []
        self.archives: Final[list[Archive]] = []
        self._opening: Final = opening
        self._mapper: Final = mapper
        self._captures: list[Capture] = []
        self._found: list[Candidate | Skipped] = []
        self._seen: set[tuple[int, int]] = set()
        self._seen_remote: set[tuple[Any, str]] = set()
        self._shown: dict[str, int] = {}
        self._files = 0

    def add(self, source: Source) -> None:
        """Take in one argument."""
        if parse_address(source.path) is not None or source.path == "-":
            self._add_stream(source.path, source.node)
        elif is_url(source.path):
            try:
                files, named = find(source.path)
            except InputError as error:
                if glob.has_magic(source.path):
                    raise
                files, named = [], True
                self._found.append(Skipped(error.path, error.reason, named=True))
            for file in files:
                self._add_remote(file, source.node, named=named)
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

    def in_order(self) -> list[Recording]:
        """The recordings by their first packet, each one's files by theirs; pipes last."""
        groups: dict[tuple[str, str], list[Capture]] = {}
        for capture in self._captures:
            groups.setdefault((capture.node, "" if capture.node else series_key(capture.name)), []).append(capture)
        for group in groups.values():
            # A file without a packet has no time: its name puts it behind those of the same recording that have.
            group.sort(key=_in_time)
        return [Recording(tuple(group)) for group in sorted(groups.values(), key=lambda group: _in_time(group[0]))]

    def _add_stream(self, path: str, node: str) -> None:
        def start(_: int | None) -> FileReader:
            found = open_source(path, open_octets(path, self._opening), self._opening)
            if isinstance(found, TarStream):
                found.source.close()
                raise CaptureFormatError(path, 0, "an archive in a pipe is read only where it is the one input")
            return found

        self._captures.append(Capture(path, node, True, start, probed=False))

    def _add_folder(self, source: Source) -> None:
        def refused(error: OSError) -> None:
            self._found.append(Skipped(str(error.filename), error.strerror or "cannot be read", named=False))

        for folder, folders, files in os.walk(source.path, onerror=refused):
            folders.sort(key=natural_key)
            for name in sorted(files, key=natural_key):
                self._add_file(os.path.join(folder, name), source.node, named=False)

    def _add_file(self, path: str, node: str, *, named: bool) -> None:
        self._files += 1
        if self._files > MAX_FILES:
            self._found.append(Skipped(path, f"more than {MAX_FILES} files", named))
            return
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            status = None  # opening it says what is wrong
        if status is not None and not stat.S_ISREG(status.st_mode):
            if named:
                self._add_stream(path, node)
            else:
                self._found.append(Skipped(path, "not a regular file", named=False))
            return
        if status is not None:
            same = (status.st_dev, status.st_ino)
            if same in self._seen:
                if named:
                    self._found.append(Skipped(path, "the same file as one before it", named=False))
                return
            self._seen.add(same)
        size = status.st_size if status is not None else 0
        self._found.append(Candidate(path, os.path.abspath(path), node, named, size))

    def _add_remote(self, file: RemoteFile, node: str, *, named: bool) -> None:
        self._files += 1
        if self._files > MAX_FILES:
            self._found.append(Skipped(file.name, f"more than {MAX_FILES} files", named))
        elif file.identity in self._seen_remote:
            if named:
                self._found.append(Skipped(file.name, "the same file as one before it", named=False))
        else:
            self._seen_remote.add(file.identity)
            # What tells two apart may be what is not shown, a query: then they are counted. Not by numbers, by which
            # files of one recording differ.
            before = self._shown[file.name] = self._shown.get(file.name, -1) + 1
            name = f"{file.name} ({_letters(before)})" if before else file.name
            self._found.append(Candidate(name, replace(file, name=name), node, named, file.size or 0))

    def examine(self) -> None:
        """Look into what was found: which of it are captures, and when they begin."""
        candidates = [one for one in self._found if isinstance(one, Candidate)]
        answers = iter(self._mapper(partial(_examine, opening=self._opening), candidates))
        for one in self._found:
            if isinstance(one, Skipped):
                self.skips.add(one.name, one.reason, named=one.named)
                continue
            examined = next(answers)
            for skipped in examined.skipped:
                self.skips.add(skipped.name, skipped.reason, named=skipped.named)
            self.skips.count += examined.more_skipped
            captures = examined.captures
            if examined.archive is not None:
                self.archives.append(examined.archive)
                room = max(MAX_FILES - self._files, 0)
                if len(captures) > room:
                    captures = captures[:room]
                    self.skips.add(one.name, f"more than {MAX_FILES} files: the rest of the archive is left out")
                self._files += len(captures)
            self._captures += captures
            self.secrets.extend(examined.secrets)


def _letters(number: int) -> str:
    """0 as a, 1 as b, 26 as aa."""
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)


def _in_time(capture: Capture) -> tuple[bool, bool, int, tuple[tuple[int, int, str], ...]]:
    """Sort key by the first packet; pipes, of which nothing is known yet, stay last and as they were given."""
    if not capture.probed:
        return True, True, 0, ()
    return False, capture.first_ns is None, capture.first_ns or 0, natural_key(capture.name)


def _examine(candidate: Candidate, opening: Opening) -> Examined:
    """Look at the beginning of a file, and at the beginnings of all that an archive holds."""
    name, place = candidate.name, candidate.place
    quick = replace(opening, chunk_octets=_PROBE_OCTETS, workers=1)
    try:
        found = open_source(name, open_octets(place, quick), quick)
    except PlanewireError as error:
        return Examined(skipped=(Skipped(name, reason_given(error), candidate.named),))
    if isinstance(found, TarStream):
        return _examine_archive(candidate, found, opening, quick)
    with found as reader:
        first_ns, kinds = _probe(reader)
        secrets = tuple(reader.secrets)
    start = partial(_open_file, name, place, opening)
    return Examined(
        (Capture(name, candidate.node, candidate.named, start, first_ns, kinds, size=candidate.size),), (), secrets
    )


def _examine_archive(candidate: Candidate, found: TarStream, opening: Opening, quick: Opening) -> Examined:
    archive, skips = Archive(candidate.name, candidate.place, opening), Skips()
    captures: list[Capture] = []
    secrets: list[bytes] = []
    for key, name, member in walk(candidate.name, found, quick, skips, 1):
        first_ns, kinds = _probe(member)
        secrets += member.secrets
        size = 0 if captures else candidate.size
        captures.append(
            Capture(name, candidate.node, False, partial(_open_member, archive, key), first_ns, kinds, size=size)
        )
        if len(captures) > MAX_FILES:
            break
    found.source.close()
    return Examined(tuple(captures), tuple(skips.kept), tuple(secrets), archive, skips.count - len(skips.kept))


def _open_file(name: str, place: str | RemoteFile, opening: Opening, workers: int | None) -> FileReader:
    if workers is not None:
        opening = replace(opening, workers=workers)
    found = open_source(name, open_octets(place, opening), opening)
    if isinstance(found, TarStream):
        found.source.close()
        raise CaptureFormatError(name, 0, "the file changed while it was read")
    return found


def _open_member(archive: Archive, key: Key, _: int | None) -> FileReader:
    return archive.open(key)


def _probe(reader: FileReader) -> tuple[int | None, tuple[tuple[int, str], ...]]:
    """Time of the first frame that has one, within the first chunk, and the interfaces there."""
    first_ns = None
    for chunk in reader:
        timed = chunk.time_ns[chunk.time_ns > 0]
        first_ns = int(timed[0]) if timed.shape[0] else None
        break
    return first_ns, signature(reader.interfaces)


def _read_streamed(source: Source, stream: TarStream, opening: Opening) -> CaptureSet:
    """An archive in a pipe: its captures in the order it has them, for there is no second look."""
    skips = Skips()

    def captures() -> Iterator[Capture]:
        for _, name, reader in walk(source.path, stream, opening, skips, 1):
            yield Capture(name, source.node, False, partial(_itself, reader), probed=False)

    return CaptureSet(source.path, captures(), skips, size=None, closers=[stream.source.close])


def _itself(reader: FileReader, _: int | None) -> FileReader:
    return reader
