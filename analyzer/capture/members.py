"""Captures inside archives: found one after the other, and opened again by their place."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from analyzer.capture.inventory import MAX_SKIPPED
from analyzer.capture.remote import RemoteFile
from analyzer.capture.source import FileReader, Opening, TarStream, open_octets, open_source
from analyzer.errors import CaptureFormatError, InputError, PlanewireError
from analyzer.schema import Skipped

MAX_NESTING: Final = 3
"""Archives inside archives that are opened."""
MAX_PASSES: Final = 32
"""Times a compressed archive is read from its start, where the captures in it do not lie in order of time."""

Key = tuple[int, ...]
"""Place of a capture in an archive: number of the member, and of the member inside that where it is an archive."""


class Skips:
    """What was found and not analysed."""

    def __init__(self) -> None:
        self.kept: list[Skipped] = []
        self.count = 0

    def add(self, name: str, reason: str, *, named: bool = False) -> None:
        """Count one more, and keep it where there is room."""
        self.count += 1
        if len(self.kept) < MAX_SKIPPED:
            self.kept.append(Skipped(name, reason, named))


def reason_given(error: PlanewireError) -> str:
    """What an error says is wrong, without the name that stands before it."""
    if isinstance(error, CaptureFormatError):
        return error.reason
    return error.reason if isinstance(error, InputError) else str(error)


def walk(
    name: str, stream: TarStream, opening: Opening, skips: Skips, depth: int
) -> Generator[tuple[Key, str, FileReader], None, None]:
    """Yield every capture of an archive, archives inside it included, each valid until the next is asked for."""
    problems: list[str] = []
    number = -1
    from analyzer.capture.archive import read_members

    for number, (member, content) in enumerate(read_members(stream.source, problems.append)):
        full = f"{name}:{member}"
        if content is None:
            skips.add(full, "a sparse file: unpack the archive to read it")
            continue
        try:
            found = open_source(full, content, opening)
        except PlanewireError as error:
            skips.add(full, reason_given(error))
            continue
        if not isinstance(found, TarStream):
            yield (number,), full, found
        elif depth >= MAX_NESTING:
            skips.add(full, f"archives nested more than {MAX_NESTING} deep")
        else:
            for key, inner, reader in walk(full, found, opening, skips, depth + 1):
                yield (number, *key), inner, reader
    for problem in problems[:1]:
        skips.add(name, f"{problem} (after {number + 1} files)", named=True)


class Archive:
    """An archive whose captures are opened by their place in it, forwards as far as possible."""

    def __init__(self, name: str, place: str | RemoteFile, opening: Opening) -> None:
        self.name: Final = name
        self._place: Final = place
        self._opening: Final = opening
        self._walker: Generator[tuple[Key, str, FileReader], None, None] | None = None
        self._stream: TarStream | None = None
        self._at: Key = ()
        self._passes = 0

    def __getstate__(self) -> dict[str, object]:
        """Sent to another process, it is opened again there."""
        return vars(self) | {"_walker": None, "_stream": None, "_at": (), "_passes": 0}

    def close(self) -> None:
        """Close the archive where it is open."""
        if self._stream is not None:
            self._stream.source.close()
            self._stream = None

    def open(self, key: Key) -> FileReader:
        """The capture at a place of the archive, valid until the next is asked for."""
        if self._walker is None or self._at >= key:
            self._restart()
        assert self._walker is not None
        for at, _, reader in self._walker:
            self._at = at
            if at == key:
                return reader
        raise CaptureFormatError(self.name, 0, "the archive changed while it was read")

    def _restart(self) -> None:
        self._passes += 1
        if self._passes > MAX_PASSES:
            raise CaptureFormatError(
                self.name,
                0,
                f"its captures lie so far from the order of time that it would be read more than {MAX_PASSES} times: "
                "unpack it and name the folder",
            )
        self.close()
        found = open_source(self.name, open_octets(self._place, self._opening), self._opening)
        if not isinstance(found, TarStream):
            raise CaptureFormatError(self.name, 0, "the file changed while it was read")
        self._stream = found
        # What is skipped was told when the archive was first looked at.
        self._walker = walk(self.name, found, self._opening, Skips(), 1)
        self._at = ()
