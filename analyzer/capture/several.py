"""Any number of captures as one input, read one after the other.

Those of one recording are read in order of time, and each chunk says which capture and which vantage point it is of. A
capture that is damaged, or cannot be opened, costs nothing of the others. Recordings share nothing, so that each can
also be read by itself, in any order and anywhere. Which captures there are, `discovery` finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import numpy as np

from analyzer.capture.inventory import Inventory, Vantage
from analyzer.capture.members import Skips, reason_given
from analyzer.capture.series import TOLERANCE_NS, series_key, signature
from analyzer.capture.source import FileReader
from analyzer.errors import InputError, PlanewireError
from analyzer.schema import CaptureChunk, CaptureOrigin, Damage, Interface, Skipped, VantagePoint
from analyzer.team import Team

MAX_CAPTURES: Final = 4096
"""Captures of one recording that get a vantage point of their own (`flows.MAX_VANTAGES`)."""


@dataclass(slots=True)
class Capture:
    """A capture to be read.

    Where ``open`` can be sent to another process, the capture can be read there (pipes cannot); ``shareable`` are those
    that several processes of this machine may read at the same time, each for itself.
    """

    name: str
    node: str
    named: bool
    open: Callable[[], FileReader]
    first_ns: int | None = None
    interfaces: tuple[tuple[int, str], ...] = ()
    probed: bool = True
    size: int = 0
    shareable: bool = False


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

    def open(self) -> CaptureSet:
        """A reader of these captures alone, numbered from 0, that may have no capture at all."""
        name = self.captures[0].name if self.captures else ""
        again = self.open if all(capture.shareable for capture in self.captures) else None
        return CaptureSet(name, self.captures, Skips(), size=self.size, part=True, again=again)


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
    again : callable or None
        Opens the same captures once more; None where they can be read but once, or at too great a cost.
    team : Team or None
        Processes that each have opened these captures and read them together; to be set before the iteration.
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
        again: Callable[[], CaptureSet] | None = None,
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
        self.again: Final = again
        self.team: Team | None = None
        self.leading_secrets: Final = secrets
        self._part: Final = part
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
        return nothing_found(self.name, inventory.skipped, inventory.skipped_count)

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
                reader = self._only or capture.open()
            except PlanewireError as error:
                self._skips.add(capture.name, reason_given(error), named=capture.named)
                continue
            self._reading = reader
            reader.team = self.team
            self._frames = yield from self._read_one(capture, reader, self._frames)
            self._done_octets += reader.octets_read
            self._reading = None
            reader.close()
        if not self.origins and not self._part:
            raise nothing_found(self.name, self._skips.kept, self._skips.count)

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


def nothing_found(name: str, skipped: Sequence[Skipped], count: int) -> PlanewireError:
    """Say why no capture was found at all."""
    if not skipped:
        return InputError(name, "no file in it; name captures, or a folder or archive that holds some")
    first = skipped[0]
    if count == 1:
        return InputError(first.name, first.reason)
    return InputError(name, f"none of the {count} files is a capture; the first, {first.name}: {first.reason}")
