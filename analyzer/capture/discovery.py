"""Which captures the user means: files, folders, patterns, rotated sets, archives, pipes, addresses in a storage.

Captures of one recording are put in order of time. What a folder or an archive holds besides captures is named and
skipped.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from analyzer.capture.candidates import MAX_FILES, Candidate, Examined, examine
from analyzer.capture.growing import parse_address
from analyzer.capture.members import Archive, Key, Skips, walk
from analyzer.capture.remote import RemoteFile, find, is_url, shown
from analyzer.capture.series import natural_key, series_key
from analyzer.capture.several import Capture, CaptureSet, Portion, Recording, nothing_found
from analyzer.capture.source import FileReader, Opening, TarStream, open_octets, open_source
from analyzer.errors import CaptureFormatError, InputError
from analyzer.schema import Skipped

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


Mapper = Callable[[Callable[[Candidate], Examined], Sequence[Candidate]], Iterable[Examined]]
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
            capture = Capture(path, sources[0].node, True, lambda: found)
            again = partial(open_captures, sources, opening) if found.shareable else None
            return CaptureSet(path, [capture], Skips(), size=found.size, first=found, again=again)
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
        raise nothing_found(name, planner.skips.kept, planner.skips.count)
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
        def start() -> FileReader:
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
        answers = iter(self._mapper(partial(examine, opening=self._opening), candidates))
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


def _read_streamed(source: Source, stream: TarStream, opening: Opening) -> CaptureSet:
    """An archive in a pipe: its captures in the order it has them, for there is no second look."""
    skips = Skips()

    def captures() -> Iterator[Capture]:
        for _, name, reader in walk(source.path, stream, opening, skips, 1):
            yield Capture(name, source.node, False, partial(_itself, reader), probed=False)

    return CaptureSet(source.path, captures(), skips, size=None, closers=[stream.source.close])


def _itself(reader: FileReader) -> FileReader:
    return reader
