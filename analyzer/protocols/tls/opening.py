"""Connections whose secrets were handed over, opened record by record: handshake messages, alerts, application data.

One connection at a time, in plain Python: keys are given for few connections, and each record costs a call into
``cryptography`` anyway. What a record holds counts only if it authenticates under the secret of its session.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from analyzer.protocols.tls.handshake import CLIENT_HELLO, SERVER_HELLO
from analyzer.protocols.tls.hello import RANDOM, Hellos
from analyzer.protocols.tls.keylog import APPLICATION, EARLY, HANDSHAKE, MASTER_SECRET, KeyLog
from analyzer.protocols.tls.protection import (
    Opener,
    Opener13,
    ProtectionError,
    Suite,
    openers_12,
    suite_parameters,
)
from analyzer.protocols.tls.records import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HEADER, MAX_LENGTH
from analyzer.protocols.tls.records import HANDSHAKE as HANDSHAKE_RECORD
from analyzer.protocols.tls.view import Handshakes
from analyzer.registries import HeadStop, TlsVersion
from analyzer.schema import I64, StreamHeads

ENCRYPT_THEN_MAC: Final = 22
"""ExtensionType, RFC 7366."""
END_OF_EARLY_DATA: Final = 5
FINISHED: Final = 20
KEY_UPDATE: Final = 24
MAX_MESSAGES: Final = 64
"""Handshake messages kept of one side; session tickets are not kept."""
MAX_MESSAGE: Final = 1 << 17
"""Octets of one handshake message; a chain of certificates has some thousands."""
_KEPT: Final = frozenset({1, 2, 8, 11, 13, 15, FINISHED, 25})
"""ClientHello and ServerHello (renegotiation), EncryptedExtensions, Certificate, CertificateRequest,
CertificateVerify, Finished, CompressedCertificate (RFC 8879)."""
_MAX_SKIPPED: Final = 64
"""Records passed over in search of the first one that a secret fits (rejected early data, handshake secrets that the
log lacks)."""
_MAX_EPOCHS: Final = 8
"""Handshakes of one connection of TLS 1.2 that are followed (renegotiation)."""

# What became of a connection's secrets.
DECRYPTED: Final = "decrypted with the keys given"
NO_KEYS: Final = "the key log has no secret for this connection"
NO_RANDOM: Final = "its client random was not captured: which keys are its own is not known"
DO_NOT_FIT: Final = "the keys given for it do not fit: its records do not authenticate under them"
STOPPED: Final = "decrypted in part: a later record does not authenticate (octets lost or changed before it)"
CUT: Final = "decrypted in part: octets after that were not captured"
UNSUPPORTED: Final = "keys were given, but records of its version and cipher suite cannot be opened here"
NOTHING: Final = "keys were given; no encrypted record of it was captured whole"


class Message(NamedTuple):
    """A handshake message that was encrypted: type, body, the frame it begins in, and its handshake (0 = the first)."""

    kind: int
    body: bytes
    frame: int
    epoch: int


class Alert(NamedTuple):
    """An alert that was encrypted."""

    level: int
    description: int
    frame: int
    before_finished: bool  #: the side had not sent its Finished


class Piece(NamedTuple):
    """Application data of one record: its content and where each captured segment begins in it."""

    content: bytes
    segments: tuple[tuple[int, int], ...]  #: (position in the content, frame), ascending, the first at 0


LOST: Final = Piece(b"", ())
"""Application data that was not captured whole."""


@dataclass(slots=True)
class OpenedSide:
    """What one side sent under protection."""

    messages: list[Message] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    data: list[Piece] = field(default_factory=list)
    opened: int = 0  #: records
    failed: bool = False  #: a record did not authenticate, and reading ended there
    cut: bool = False  #: reading ended at octets that were not captured

    @property
    def finished(self) -> bool:
        """The side's Finished was read."""
        return any(message.kind == FINISHED for message in self.messages)

    def first(self, kind: int) -> Message | None:
        """First message of a type."""
        return next((message for message in self.messages if message.kind == kind), None)


@dataclass(slots=True)
class OpenedFlow:
    """A connection for which secrets were given."""

    client: OpenedSide = field(default_factory=OpenedSide)
    server: OpenedSide = field(default_factory=OpenedSide)
    supported: bool = True

    @property
    def opened(self) -> bool:
        """At least one record was decrypted."""
        return self.client.opened + self.server.opened > 0

    @property
    def renegotiated(self) -> bool:
        """A second handshake went on inside the protection of the first (TLS 1.2)."""
        return any(m.kind == SERVER_HELLO and m.epoch > 0 for m in self.server.messages)

    @property
    def outcome(self) -> str:
        """What became of it, in words."""
        sides = (self.client, self.server)
        if not self.supported:
            return UNSUPPORTED
        if not self.opened:
            return DO_NOT_FIT if any(side.failed for side in sides) else NOTHING
        if any(side.failed for side in sides):
            return STOPPED
        return CUT if any(side.cut for side in sides) else DECRYPTED


class _Record(NamedTuple):
    kind: int
    version: bytes
    start: int  #: position of the body in the head
    body: bytes | None  #: None where it was not captured whole


class _Direction:
    """One direction's head as plain octets, with its holes and segments."""

    def __init__(self, heads: StreamHeads, stream: int) -> None:
        self.octets = heads.head(stream).tobytes()
        rows = slice(*np.searchsorted(heads.holes_stream, [stream, stream + 1]).tolist())
        self._hole_starts: list[int] = heads.holes_start[rows].tolist()
        self._hole_stops: list[int] = heads.holes_stop[rows].tolist()
        rows = slice(int(heads.segments_offsets[stream]), int(heads.segments_offsets[stream + 1]))
        self.positions: list[int] = heads.segment_position[rows].tolist()
        self.frames: list[int] = heads.segment_frame[rows].tolist()
        self._limited = int(heads.stop[stream]) == HeadStop.LIMIT

    def _known(self, start: int, stop: int) -> bool:
        hole = bisect_right(self._hole_stops, start)
        return stop <= len(self.octets) and (hole == len(self._hole_stops) or self._hole_starts[hole] >= stop)

    def frame_at(self, position: int) -> int:
        row = bisect_right(self.positions, position) - 1
        return self.frames[row] if row >= 0 else 0

    def segments(self, start: int, stop: int) -> list[tuple[int, int]]:
        """(position, frame) of what lies in ``[start, stop)``: its first octet, and each segment that begins in it."""
        found = [(start, self.frame_at(start))]
        row = bisect_right(self.positions, start)
        while row < len(self.positions) and self.positions[row] < stop:
            found.append((self.positions[row], self.frames[row]))
            row += 1
        return found

    def records(self, at: int, side: OpenedSide) -> Iterator[_Record]:
        """Yield the records from position `at` until one's header is missing or none; says on `side` how it ended."""
        while at < len(self.octets):
            if not self._known(at, at + HEADER):
                # Where the head is full nothing was lost: it is only kept so far.
                side.cut = side.cut or not (self._limited and at + HEADER > len(self.octets))
                return
            header = self.octets[at : at + HEADER]
            length = int.from_bytes(header[3:])
            if not CHANGE_CIPHER_SPEC <= header[0] <= APPLICATION_DATA + 1 or header[1] != 3 or length > MAX_LENGTH:
                side.failed = True
                return
            start, stop = at + HEADER, at + HEADER + length
            whole = self._known(start, stop)
            side.cut = side.cut or not (whole or (self._limited and stop > len(self.octets)))
            if stop > len(self.octets):
                return
            yield _Record(header[0], header[1:3], start, self.octets[start:stop] if whole else None)
            at = stop


class _Reader:
    """Reads one side's records on; what was decrypted goes to `side`."""

    def __init__(self, direction: _Direction, at: int) -> None:
        self.side = OpenedSide()
        self._direction = direction
        self._records = direction.records(at, self.side)
        self._handshake = b""
        self._handshake_frame = 0
        self._broken = False  #: a handshake message has a part that was not captured
        self.epoch = 0

    def next(self) -> _Record | None:
        """The next record of this side."""
        return next(self._records, None)

    def lose(self, *, data: bool) -> None:
        """A record was not captured whole; `data` where it can only have held application data."""
        self._broken = True
        self._handshake = b""
        if data:
            self.side.data.append(LOST)

    def take(self, record: _Record, opener: Opener, kind: int, content: bytes) -> list[Message]:
        """Keep what a record held; the handshake messages that it ends."""
        self.side.opened += 1
        start = record.start + opener.prefix
        if kind == APPLICATION_DATA and content:
            segments = self._direction.segments(start, start + len(content))
            self.side.data.append(Piece(content, tuple((position - start, frame) for position, frame in segments)))
        elif kind == ALERT and len(content) == 2:
            frame = self._direction.frame_at(start)
            self.side.alerts.append(Alert(content[0], content[1], frame, not self.side.finished))
        elif kind == HANDSHAKE_RECORD:
            return self._messages(content, self._direction.frame_at(start))
        return []

    def _messages(self, content: bytes, frame: int) -> list[Message]:
        if self._broken and not _whole_messages(content):
            return []
        self._broken = False
        if not self._handshake:
            self._handshake_frame = frame
        self._handshake += content
        found: list[Message] = []
        while len(self._handshake) >= 4:
            length = int.from_bytes(self._handshake[1:4])
            if length > MAX_MESSAGE:
                self._handshake = b""
                break
            if len(self._handshake) < 4 + length:
                break
            body = self._handshake[4 : 4 + length]
            found.append(Message(self._handshake[0], body, self._handshake_frame, self.epoch))
            self._handshake = self._handshake[4 + length :]
            self._handshake_frame = frame
        room = MAX_MESSAGES - len(self.side.messages)
        self.side.messages += [message for message in found if message.kind in _KEPT][: max(room, 0)]
        return found


def _whole_messages(content: bytes) -> bool:
    """Handshake messages that are kept here and nothing else: where reading goes on after octets were lost."""
    at = 0
    while at + 4 <= len(content) and content[at] in _KEPT:
        at += 4 + int.from_bytes(content[at + 1 : at + 4])
    return at == len(content)


# ------------------------------------------------------------------------------------------- TLS 1.3


def _open_13(reader: _Reader, suite: Suite, secrets: dict[bytes, bytes], number: int, *, early: bool) -> None:
    """Open one side of TLS 1.3; `number` is 0 for the client, 1 for the server."""
    labels = [EARLY] if number == 0 and early else []
    labels += [HANDSHAKE[number], APPLICATION[number]]
    phases = [(label, Opener13(suite, secrets[label])) for label in labels if label in secrets]
    side, skipped, lost = reader.side, 0, False
    # Before anything was opened, a secret may begin later: early data that the server rejects comes first (RFC 8446
    # 4.2.10), or the log lacks the secret of the handshake.
    searching = early or HANDSHAKE[number] not in secrets
    while phases and (record := reader.next()) is not None:
        if record.kind != APPLICATION_DATA:
            continue  # the ChangeCipherSpec of middlebox compatibility (RFC 8446 D.4), clear hellos and alerts
        label, opener = phases[0]
        if record.body is None:
            opener.skip()
            lost = True
            reader.lose(data=label == APPLICATION[number])
            continue
        try:
            kind, content = opener.open(record.kind, record.version, record.body)
        except ProtectionError:
            may_change = lost or opener.sequence == 0 or label == EARLY
            if len(phases) > 1 and may_change and _opens(phases[1][1], record):
                del phases[0]
                label, opener = phases[0]
                lost = False
                kind, content = opener.open(record.kind, record.version, record.body)
            elif side.opened == 0 and searching and skipped < _MAX_SKIPPED:
                skipped += 1
                continue
            else:
                side.failed = True
                return
        for message in reader.take(record, opener, kind, content):
            if message.kind == END_OF_EARLY_DATA or (message.kind == FINISHED and label != APPLICATION[number]):
                del phases[0]
                lost = False
                break
            if message.kind == KEY_UPDATE:
                opener.update()
    side.failed = side.failed or (skipped > 0 and side.opened == 0)


def _opens(opener: Opener13, record: _Record) -> bool:
    """Whether `record` is the first one under another secret; nothing is counted."""
    try:
        opener.open(record.kind, record.version, record.body or b"")
    except ProtectionError:
        return False
    opener.sequence -= 1
    return True


# ------------------------------------------------------------------------------------------- TLS 1.2


def _open_epoch_12(reader: _Reader, opener: Opener) -> None:
    """Open one side's records up to its next ChangeCipherSpec."""
    while (record := reader.next()) is not None:
        if record.kind == CHANGE_CIPHER_SPEC:
            # The message itself is a record under the present keys, one octet of content.
            if record.body is not None and len(record.body) > 1:
                try:
                    opener.open(record.kind, record.version, record.body)
                except ProtectionError:
                    reader.side.failed = True
            return
        if record.body is None:
            opener.skip()
            reader.lose(data=record.kind == APPLICATION_DATA)
            continue
        try:
            kind, content = opener.open(record.kind, record.version, record.body)
        except ProtectionError:
            reader.side.failed = True
            return
        reader.take(record, opener, kind, content)


def _skip_to_change(reader: _Reader) -> bool:
    """Read over the clear records up to the side's ChangeCipherSpec; False where there is none."""
    while (record := reader.next()) is not None:
        if record.kind == CHANGE_CIPHER_SPEC:
            return True
    return False


class _Hello(NamedTuple):
    random: bytes
    cipher: int = 0
    encrypt_then_mac: bool = False


def _open_12(client: _Reader, server: _Reader, keys: KeyLog, hellos: tuple[_Hello, _Hello]) -> bool:
    """Open both sides of TLS 1.2, renegotiated handshakes included; False where the suite cannot be opened."""
    both = client, server
    started = [_skip_to_change(reader) for reader in both]
    client_hello, server_hello = hellos
    for epoch in range(1, _MAX_EPOCHS + 1):
        suite = suite_parameters(server_hello.cipher)
        if suite is None:
            return epoch > 1
        master = keys.session(client_hello.random).get(MASTER_SECRET)
        if master is None:
            for reader in both:
                reader.side.failed = True
            return True
        openers = openers_12(
            suite,
            master,
            client_hello.random,
            server_hello.random,
            encrypt_then_mac=server_hello.encrypt_then_mac,
        )
        for reader, opener, begun in zip(both, openers, started, strict=True):
            if begun and not reader.side.failed:
                reader.epoch = epoch
                _open_epoch_12(reader, opener)
        fresh = [
            next((m for m in reversed(reader.side.messages) if m.kind == kind and m.epoch == epoch), None)
            for reader, kind in zip(both, (CLIENT_HELLO, SERVER_HELLO), strict=True)
        ]
        if fresh[0] is None or fresh[1] is None or any(reader.side.failed for reader in both):
            return True
        server_hello = _server_hello(fresh[1].body)
        client_hello = _Hello(fresh[0].body[2 : 2 + RANDOM])
    return True


def _server_hello(body: bytes) -> _Hello:
    """What the keys need of a ServerHello that came encrypted (RFC 5246 7.4.1.3)."""
    at = 2 + RANDOM
    random, session = body[2:at], body[at] if len(body) > at else 0
    at += 1 + session
    cipher = int.from_bytes(body[at : at + 2])
    at += 5
    while at + 4 <= len(body):
        kind, length = int.from_bytes(body[at : at + 2]), int.from_bytes(body[at + 2 : at + 4])
        if kind == ENCRYPT_THEN_MAC:
            return _Hello(random, cipher, True)
        at += 4 + length
    return _Hello(random, cipher)


# ------------------------------------------------------------------------------------------ all flows


def client_randoms(view: Handshakes) -> dict[int, bytes]:
    """Client random of each row of `view` whose ClientHello shows it."""
    return _randoms(view, view.client_hello)


def _randoms(view: Handshakes, message: I64) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for octets, flows, rows in view.located(message):
        start, known, ssl2 = view.messages.start[rows], view.messages.known[rows], view.messages.ssl2[rows]
        good = np.flatnonzero((start + 2 + RANDOM <= known) & ~ssl2)
        for flow, at in zip(flows[good].tolist(), start[good].tolist(), strict=True):
            found[flow] = octets[at + 2 : at + 2 + RANDOM].tobytes()
    return found


def _encrypting_then_mac(view: Handshakes) -> frozenset[int]:
    chosen: set[int] = set()
    for flows, hellos in view.server_parts:
        chosen.update(flows[_has(hellos, ENCRYPT_THEN_MAC)].tolist())
    return frozenset(chosen)


def _has(hellos: Hellos, kind: int) -> I64:
    return np.flatnonzero(hellos.extensions.pick(kind, len(hellos))[0] >= 0)


def open_flows(view: Handshakes, keys: KeyLog, early: I64) -> dict[int, OpenedFlow]:
    """Decrypt every connection of `view` for which `keys` has secrets, by row.

    Parameters
    ----------
    view : Handshakes
    keys : KeyLog
    early : (K,) int64
        Rows whose client offers early data.
    """
    client_random = {row: value for row, value in client_randoms(view).items() if value in keys}
    rows = [row for row in sorted(client_random) if view.server_hello[row] >= 0 and view.cipher[row] >= 0]
    found = {row: OpenedFlow() for row in sorted(client_random)}
    if not rows:
        return found
    server_random = _randoms(view, view.server_hello)
    etm, offers_early = _encrypting_then_mac(view), frozenset(early.tolist())
    records = view.walk.records
    hello = records.header[view.messages.record[np.stack([view.client_hello[rows], view.server_hello[rows]])]]
    streams = np.stack([view.streams[rows], view.streams[view.count + np.array(rows)]])
    at = hello - view.heads.offsets[streams]
    for number, row in enumerate(rows):
        flow = found[row]
        readers = [
            _Reader(_Direction(view.heads, int(streams[side, number])), int(at[side, number])) for side in (0, 1)
        ]
        flow.client, flow.server = readers[0].side, readers[1].side
        cipher, version = int(view.cipher[row]), int(view.version[row])
        suite = suite_parameters(cipher)
        if version == TlsVersion.TLS_1_3 and suite is not None:
            secrets = keys.session(client_random[row])
            for side in (0, 1):
                _open_13(readers[side], suite, secrets, side, early=row in offers_early)
        elif version == TlsVersion.TLS_1_2 and row in server_random:
            hellos = _Hello(client_random[row]), _Hello(server_random[row], cipher, row in etm)
            flow.supported = _open_12(readers[0], readers[1], keys, hellos)
        else:
            flow.supported = False
    return found
