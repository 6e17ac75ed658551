"""A file that may be a capture, or an archive of captures: what it turns out to be, from a look at its beginning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from analyzer.capture.members import Archive, Key, Skips, reason_given, walk
from analyzer.capture.remote import RemoteFile
from analyzer.capture.series import signature
from analyzer.capture.several import Capture
from analyzer.capture.source import FileReader, Opening, TarStream, open_octets, open_source
from analyzer.errors import CaptureFormatError, PlanewireError
from analyzer.schema import Skipped

MAX_FILES: Final = 100_000
"""Files looked at in folders and archives of one run."""
_PROBE_OCTETS: Final = 1 << 16


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


def examine(candidate: Candidate, opening: Opening) -> Examined:
    """Look at the beginning of a file, and at the beginnings of all that an archive holds."""
    name, place = candidate.name, candidate.place
    quick = replace(opening, chunk_octets=_PROBE_OCTETS)
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
    capture = Capture(
        name, candidate.node, candidate.named, start, first_ns, kinds, size=candidate.size, shareable=found.shareable
    )
    return Examined((capture,), (), secrets)


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


def _open_file(name: str, place: str | RemoteFile, opening: Opening) -> FileReader:
    found = open_source(name, open_octets(place, opening), opening)
    if isinstance(found, TarStream):
        found.source.close()
        raise CaptureFormatError(name, 0, "the file changed while it was read")
    return found


def _open_member(archive: Archive, key: Key) -> FileReader:
    return archive.open(key)


def _probe(reader: FileReader) -> tuple[int | None, tuple[tuple[int, str], ...]]:
    """Time of the first frame that has one, within the first chunk, and the interfaces there."""
    first_ns = None
    for chunk in reader:
        timed = chunk.time_ns[chunk.time_ns > 0]
        first_ns = int(timed[0]) if timed.shape[0] else None
        break
    return first_ns, signature(reader.interfaces)
