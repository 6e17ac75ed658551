"""The smallest capture that shows a finding: cut out of a larger one, analysed again, and kept only if it still does.

What a rule needs is known only to the rule: an API server may be one because of what a third host asked it. So the
cut is proposed, not derived. First the connections concerned, one for each server; then more of them; then those that
show who is who; and the first proposal whose own analysis gives the same finding is made smaller, connection by
connection and then at the ends, while it still does.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import PurePath
from typing import Any, Final

import numpy as np

from analyzer import __version__
from analyzer.analysis import ClusterContext, run
from analyzer.capture.pcapng_writer import WrittenFrame, pcapng_octets
from analyzer.capture.source import open_capture
from analyzer.decode import Decoder
from analyzer.errors import FindingError
from analyzer.flows import FlowBuilder
from analyzer.pipeline import Limits
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.redaction import Segment, masked
from analyzer.report.audit_result import AuditResult
from analyzer.report.document import build_document
from analyzer.report.text import visible
from analyzer.schema import I64, Interface

MAX_OCTETS: Final = 64 << 20
"""Octets of frames that a proposal may hold."""
MAX_CONNECTION_FRAMES: Final = 4000
"""Frames of one connection from its begin that are proposed; those the finding names are, wherever they stand."""
TRIES: Final = 60
"""Analyses spent on making the cut smaller."""
_TCP: Final = 6


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A capture that shows one finding.

    Attributes
    ----------
    octets : bytes
        The file (pcapng).
    frames : tuple of int
        Numbers its frames had in the capture.
    connections : int
        Connections in it.
    credentials : tuple of int
        Its frames in which a credential can be read.
    sessions : int
        TLS sessions whose secrets are in it.
    """

    octets: bytes
    frames: tuple[int, ...]
    connections: int
    credentials: tuple[int, ...]
    sessions: int


def select(document: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """Return the one finding that `wanted` names: its id (CODE/channel), its code alone, or its fingerprint.

    Raises
    ------
    FindingError
        None is named so, or several.
    """
    findings: list[dict[str, Any]] = list(document["findings"])
    key = wanted.strip().lower()
    matching = [f for f in findings if key in (f["id"].lower(), f["code"].lower(), f["name"])]
    if not matching and len(key) >= 8:
        matching = [f for f in findings if f["fingerprint"].startswith(key)]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(dict.fromkeys(f["id"] for f in (matching or findings)))
    if matching:
        raise FindingError(f"'{visible(wanted)}' names {len(matching)} findings; say which: {known}")
    raise FindingError(
        f"no finding '{visible(wanted)}'; " + (f"there are {known}" if known else "there are none at all")
    )


def cut_out(
    path: str,
    wanted: str,
    context: ClusterContext,
    limits: Limits | None = None,
    keys: KeyLog | None = None,
    *,
    redact: bool = False,
) -> Excerpt:
    """Cut the smallest capture out of a file that shows the finding `wanted` when it is analysed in the same context.

    Secrets that a pcapng file holds go along only where the finding does not show without them, and only those of
    its sessions; with `redact` never.

    Raises
    ------
    FindingError
        There is no such finding, or no cut of it that is small enough shows it, or its credentials cannot be masked.
    """
    return _Cutter(path, wanted, context, limits or Limits(), keys).cut(redact)


class _Cutter:
    def __init__(self, path: str, wanted: str, context: ClusterContext, limits: Limits, keys: KeyLog | None) -> None:
        self.path, self.context, self.limits, self.keys = path, context, limits, keys
        with open_capture(path) as reader:
            result = run(reader, context, limits, keys=keys)
            self.secrets = b"\n".join(reader.secrets).splitlines()
        self.document = build_document(result)
        self.finding = select(self.document, wanted)
        self.data = self.document["connections"]["data"]
        self.frame, self.row = frame_connections(path)
        order = np.argsort(self.row, kind="stable")
        self._by_row = self.frame[order]
        self._offsets = np.searchsorted(self.row[order], np.arange(len(self.data["client_ip"]) + 1))
        self.tries = TRIES
        self.with_secrets = False
        self.frames: dict[int, WrittenFrame] = {}
        self.interfaces: list[Interface] = []

    def cut(self, redact: bool) -> Excerpt:
        concerned = list(self.finding["connections"])
        for with_secrets, rows in product(self._secrecy(redact), self._proposals(concerned)):
            self.with_secrets = with_secrets
            if self._load(rows) and self._shows(self._numbers(rows)):
                break
        else:
            raise FindingError(
                f"{self.finding['id']} shows only in the whole capture; send that, or a capture of less traffic"
            )
        kept = self._fewer(rows, lambda some: self._shows(self._numbers(some)))
        numbers = self._shorter(kept)
        return self._written(numbers, len(kept), redact)

    def _secrecy(self, redact: bool) -> tuple[bool, ...]:
        return (False, True) if self.secrets and not redact else (False,)

    # ----------------------------------------------------------------------------------------- proposals

    def _proposals(self, concerned: list[int]) -> Iterable[list[int]]:
        """Connections to keep, few first."""
        yield self._one_each(concerned)
        yield concerned
        witnesses = self._witnesses()
        yield sorted({*self._one_each(concerned), *witnesses})
        yield sorted({*concerned, *witnesses})
        ends = {self.data[f"{side}_ip"][row] for row in concerned for side in ("client", "server")}
        near = [
            row
            for row, pair in enumerate(zip(self.data["client_ip"], self.data["server_ip"], strict=True))
            if ends & set(pair)
        ]
        yield sorted({*near, *witnesses})
        yield list(range(len(self.data["client_ip"])))

    def _one_each(self, concerned: Sequence[int]) -> list[int]:
        """One connection for each server: one that the finding's frames show, where there is one."""
        shown = set(self._rows_of(self.finding["frames"]))
        chosen: dict[tuple[str, int], int] = {}
        for row in sorted(concerned, key=lambda row: (row not in shown, row)):
            chosen.setdefault((self.data["server_ip"][row], self.data["server_port"][row]), row)
        return sorted(chosen.values())

    def _witnesses(self) -> list[int]:
        """Connections that show which role an address has."""
        frames = [role["frame"] for entry in self.document["endpoints"] for role in entry["roles"] if role["frame"]]
        return self._rows_of(frames)

    def _rows_of(self, frames: Sequence[int]) -> list[int]:
        return sorted(set(self.row[np.isin(self.frame, frames)].tolist()))

    def _of(self, row: int) -> I64:
        """Frames of one connection, ascending; of one that another carries, those of the other."""
        while self.data["carried_by"][row] >= 0:
            row = self.data["carried_by"][row]
        frames: I64 = self._by_row[self._offsets[row] : self._offsets[row + 1]]
        return frames

    def _numbers(self, rows: Sequence[int]) -> list[int]:
        """Frames of the connections, each connection's first ones and those that count."""
        numbers: set[int] = set()
        for row in rows:
            frames = self._of(row)
            numbers.update(frames[:MAX_CONNECTION_FRAMES].tolist())
            if frames.shape[0] > MAX_CONNECTION_FRAMES:
                numbers.update(np.intersect1d(frames, self.finding["frames"]).tolist())
        return sorted(numbers)

    def _load(self, rows: Sequence[int]) -> bool:
        """Read the frames of the connections; False where they are too much."""
        missing = set(self._numbers(rows)) - self.frames.keys()
        if not missing:
            return True
        wanted = np.array(sorted(missing), np.int64)
        held = sum(len(frame.octets) for frame in self.frames.values())
        with open_capture(self.path) as reader:
            for chunk in reader:
                numbers = np.arange(chunk.first_frame, chunk.first_frame + len(chunk))
                for at in np.flatnonzero(np.isin(numbers, wanted)).tolist():
                    start, length = int(chunk.start[at]), int(chunk.captured_len[at])
                    held += length
                    if held > MAX_OCTETS:
                        return False
                    self.frames[int(numbers[at])] = WrittenFrame(
                        chunk.octets[start : start + length].tobytes(),
                        int(chunk.wire_len[at]),
                        int(chunk.time_ns[at]),
                        int(chunk.interface[at]),
                    )
            self.interfaces = list(reader.interfaces)
        return True

    # ------------------------------------------------------------------------------------------- the test

    def _analysed(self, octets: bytes, keys: KeyLog | None) -> AuditResult:
        with open_capture("-", stdin=io.BytesIO(octets)) as reader:
            return run(reader, self.context, self.limits, keys=keys)

    def _same(self, octets: bytes) -> dict[str, Any] | None:
        """Return the same finding from an analysis of the cut: same rule, channel, servers and grade."""
        for finding in build_document(self._analysed(octets, self.keys))["findings"]:
            if all(finding[name] == self.finding[name] for name in ("id", "fingerprint", "severity", "grade")):
                return dict(finding)
        return None

    def _shows(self, numbers: Sequence[int]) -> bool:
        return bool(numbers) and self._same(self._file({n: self.frames[n] for n in numbers})) is not None

    # ------------------------------------------------------------------------------------------- smaller

    def _fewer(self, items: list[int], holds: Callable[[list[int]], bool]) -> list[int]:
        """Drop what is not needed (Zeller's ddmin, with a bound on its tries)."""
        parts = 2
        while len(items) >= 2 and self.tries > 0:
            size = -(-len(items) // parts)
            for start in range(0, len(items), size):
                rest = items[:start] + items[start + size :]
                self.tries -= 1
                if rest and holds(rest):
                    items, parts = rest, max(parts - 1, 2)
                    break
                if self.tries <= 0:
                    return items
            else:
                if parts >= len(items):
                    return items
                parts = min(2 * parts, len(items))
        return items

    def _shorter(self, rows: Sequence[int]) -> list[int]:
        """Cut each connection behind the last frame that shows something, where the finding allows it."""
        frames = {row: self._of(row) for row in rows}
        evidence = np.array(self.finding["frames"], np.int64)
        ends: dict[int, int] = {}
        for row in rows:
            own = [int(frame) for frame in self.data["evidence_frames"][row].split()]
            own += np.intersect1d(frames[row], evidence).tolist()
            ends[row] = max(own, default=int(frames[row][-1]))

        def numbers(cut: Iterable[int]) -> list[int]:
            kept = {n for row in rows for n in frames[row].tolist() if row not in cut or n <= ends[row]}
            return sorted(kept & set(self._numbers(rows)))

        if self._shows(numbers(rows)):
            return numbers(rows)
        cut: list[int] = []
        for row in rows:
            if self.tries > 0 and self._shows(numbers([*cut, row])):
                cut.append(row)
            self.tries -= 1
        return numbers(cut)

    # ------------------------------------------------------------------------------------------- the file

    def _file(self, frames: Mapping[int, WrittenFrame], comment: str = "") -> bytes:
        used = sorted({frame.interface for frame in frames.values()})
        place = {interface: number for number, interface in enumerate(used)}
        return pcapng_octets(
            [self.interfaces[i] for i in used],
            [replace(frames[n], interface=place[frames[n].interface]) for n in sorted(frames)],
            comment=comment,
            application=f"planewire {__version__}",
            secrets=[b"\n".join(lines) + b"\n"] if (lines := self._lines(frames)) else [],
        )

    def _lines(self, frames: Mapping[int, WrittenFrame]) -> list[bytes]:
        """Key log lines of the sessions in the cut: their client random stands in its ClientHello."""
        if not self.with_secrets:
            return []
        octets = b"".join(frame.octets for frame in frames.values())
        return [line for line in self.secrets if (random := _client_random(line)) and random in octets]

    def _written(self, numbers: Sequence[int], connections: int, redact: bool) -> Excerpt:
        frames = {number: self.frames[number] for number in numbers}
        hidden: set[bytes] = set()
        if redact:
            streams = _streams(self._file(frames), numbers)
            octets, hidden = masked({n: f.octets for n, f in frames.items()}, streams)
            frames = {n: replace(f, octets=octets[n]) for n, f in frames.items()}
        shown = set(self.finding["frames"])
        for number in numbers:
            note = f"{self.finding['id']}, frame {number} of the capture" if number in shown else f"frame {number}"
            if redact and frames[number].octets != self.frames[number].octets:
                note += "; credential masked, TCP checksum no longer matches"
            frames[number] = replace(frames[number], comment=note)
        comment = (
            f"{self.finding['id']}: {visible(self.finding['message'])} Cut out of {visible(PurePath(self.path).name)}."
        )
        written = self._file(frames, comment)
        readable = self._readable(written)
        if self._same(written) is None:
            raise FindingError(f"{self.finding['id']} cannot be shown with its credentials masked")
        if redact and (any(len(s) >= 8 and s in written for s in hidden) or readable[1]):
            raise FindingError(
                f"{self.finding['id']}: a credential is where it cannot be masked (HTTP/2 compresses its fields)"
            )
        sessions = len({_client_random(line) for line in self._lines(frames)})
        return Excerpt(written, tuple(numbers), connections, () if redact else readable[0], sessions)

    def _readable(self, octets: bytes) -> tuple[tuple[int, ...], bool]:
        """Frames of the file with a credential that whoever has the file alone can read; does HTTP/2 carry one?"""
        found, compressed = set(), False
        for requests in self._analysed(octets, None).audit.evidence.requests.values():
            for request in requests:
                if request.credential:
                    found.add(request.frame)
                    compressed |= request.version.startswith("2")
        return tuple(sorted(found)), compressed


def _client_random(line: bytes) -> bytes:
    """Second field of a key log line (draft-ietf-tls-keylogfile 2)."""
    try:
        return bytes.fromhex(line.split()[1].decode("ascii"))
    except (IndexError, ValueError):
        return b""


def frame_connections(path: str) -> tuple[I64, I64]:
    """Tell which connections each frame of a capture belongs to.

    Returns
    -------
    frame : (K,) int64
        Frame numbers, ascending; a frame with packets of several connections (a tunnel) stands once for each.
    row : (K,) int64
        Row of the connections table.
    """
    decoder, builder = Decoder(), FlowBuilder()
    frames, flows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    with open_capture(path) as reader:
        for chunk in reader:
            packets = decoder.decode(chunk)
            rows = builder.add(packets, chunk.octets)
            frames.append(packets.frame[rows.packet])
            flows.append(rows.flow)
    _, streams = builder.finish(np.arange(len(builder)))
    row = np.empty(len(builder), np.int64)
    row[streams[:, 0] >> 1] = np.arange(len(builder))
    return np.concatenate(frames), row[np.concatenate(flows)]


def _streams(octets: bytes, numbers: Sequence[int]) -> list[list[Segment]]:
    """TCP payloads of a small capture by connection and direction, frames by their original numbers."""
    decoder, builder = Decoder(), FlowBuilder()
    found: dict[tuple[int, int], list[Segment]] = {}
    with open_capture("-", stdin=io.BytesIO(octets)) as reader:
        for chunk in reader:
            packets = decoder.decode(chunk)
            rows = builder.add(packets, chunk.octets)
            for at, flow, side in zip(rows.packet.tolist(), rows.flow.tolist(), rows.side.tolist(), strict=True):
                start, stop = int(packets.payload_start[at]), int(packets.payload_stop[at])
                if int(packets.protocol[at]) != _TCP or stop <= start:
                    continue
                frame = int(packets.frame[at])
                begin = int(chunk.start[frame - chunk.first_frame])
                segment = Segment(numbers[frame - 1], start - begin, stop - begin, int(packets.seq[at]))
                found.setdefault((flow, side), []).append(segment)
    return list(found.values())
