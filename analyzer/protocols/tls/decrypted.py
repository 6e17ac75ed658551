"""What opened connections add: facts that were out of sight, all observed, and their application data as streams."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.protocols.tls.chains import ChainPool
from analyzer.protocols.tls.describe import protocols
from analyzer.protocols.tls.hello import ALPN
from analyzer.protocols.tls.names import listed_names
from analyzer.protocols.tls.opening import (
    MAX_MESSAGE,
    NO_KEYS,
    NO_RANDOM,
    Message,
    OpenedFlow,
    OpenedSide,
    client_randoms,
)
from analyzer.protocols.tls.outcome import REFUSALS
from analyzer.protocols.tls.strings import StringPool, text_of
from analyzer.protocols.tls.view import Handshakes
from analyzer.registries import Grade, HeadStop, Ternary
from analyzer.schema import I64, StreamHeads

Columns = dict[str, NDArray[Any]]

_ENCRYPTED_EXTENSIONS: Final = 8
_CERTIFICATE: Final = 11
_CERTIFICATE_REQUEST: Final = 13
_COMPRESSED_CERTIFICATE: Final = 25
_CERTIFICATE_AUTHORITIES: Final = 47
_ZLIB: Final = 1
_CLOSURE: Final = (0, 90)
"""close_notify and user_canceled: the orderly end (RFC 8446 6.1)."""
_FATAL: Final = 2


@dataclass(frozen=True)
class Opened:
    """Application data of opened connections: K flows, as heads of 2 K streams, in the order of ``rows``.

    ``rows`` (K,) int64 are rows of the TLS facts.
    """

    heads: StreamHeads
    rows: I64


def _certificate(side: OpenedSide) -> tuple[Message, tuple[bytes, ...]] | None:
    """The side's last Certificate message in protected records, and its certificates; None where there is none.

    TLS 1.3 (RFC 8446 4.4.2, compressed: RFC 8879), or of a handshake renegotiated under TLS 1.2 (RFC 5246 7.4.2).
    """
    from analyzer.protocols.tls.certificates import chain_ders

    for message in reversed(side.messages):
        if message.kind == _CERTIFICATE:
            return message, chain_ders(message.body, tls13=message.epoch == 0)
        if message.kind == _COMPRESSED_CERTIFICATE:
            body = _decompressed(message.body)
            if body is not None:
                return message, chain_ders(body, tls13=True)
    return None


def _decompressed(body: bytes) -> bytes | None:
    if int.from_bytes(body[:2]) != _ZLIB:
        return None
    try:
        return zlib.decompressobj().decompress(body[8:], MAX_MESSAGE)
    except zlib.error:
        return None


def _extension(body: bytes, at: int, wanted: int) -> bytes | None:
    """Content of an extension in the list that begins at `at`."""
    stop = min(len(body), at + 2 + int.from_bytes(body[at : at + 2]))
    at += 2
    while at + 4 <= stop:
        kind, length = int.from_bytes(body[at : at + 2]), int.from_bytes(body[at + 2 : at + 4])
        if at + 4 + length > stop:
            break
        if kind == wanted:
            return body[at + 4 : at + 4 + length]
        at += 4 + length
    return None


def chain_columns(opened: Mapping[int, OpenedFlow], facts: Columns, chains: ChainPool) -> None:
    """Put the chains that were encrypted into ``client_chain`` and ``server_chain``."""
    for row, flow in opened.items():
        for name, side in (("client_chain", flow.client), ("server_chain", flow.server)):
            found = _certificate(side)
            if found is not None and found[1]:
                facts[name][row] = chains.number(found[1])


def add_facts(
    view: Handshakes, opened: Mapping[int, OpenedFlow], facts: Columns, strings: StringPool
) -> list[tuple[int, tuple[str, ...]]]:
    """Put what was decrypted into the columns; the CA names of CertificateRequests that were encrypted, by flow.

    What records did not show stays as it was: inferred, or open.
    """
    facts["decrypted"] = np.full(view.count, Ternary.UNKNOWN, np.uint8)
    facts["decryption"] = np.full(view.count, strings.number(NO_RANDOM), np.int32)
    facts["decryption"][list(client_randoms(view))] = strings.number(NO_KEYS)
    requested: list[tuple[int, tuple[str, ...]]] = []
    for row, flow in opened.items():
        facts["decrypted"][row] = Ternary.YES if flow.opened else Ternary.NO
        facts["decryption"][row] = strings.number(flow.outcome)
        if not flow.opened:
            continue
        _alerts(facts, row, flow)
        if view.is_13[row]:
            names = _handshake_13(facts, row, flow, strings, resumed=bool(view.accepts_key[row]))
        else:
            names = _renegotiated(facts, row, flow)
        if names is not None:
            requested.append((int(view.flows[row]), names))
        _completion(facts, row, flow)
    return requested


def _set(facts: Columns, row: int, **values: int) -> None:
    for name, value in values.items():
        facts[name][row] = value


def _handshake_13(
    facts: Columns, row: int, flow: OpenedFlow, strings: StringPool, *, resumed: bool
) -> tuple[str, ...] | None:
    """ALPN, the request for a certificate and the answer; the CA names of the request."""
    server, client = flow.server, flow.client
    names: tuple[str, ...] | None = None
    if (extensions := server.first(_ENCRYPTED_EXTENSIONS)) is not None:
        chosen = protocols(_extension(extensions.body, 0, ALPN))
        number = strings.number(text_of(chosen[0])) if chosen else -1
        _set(facts, row, alpn=number, alpn_grade=Grade.OBSERVED)
    request = server.first(_CERTIFICATE_REQUEST)
    if request is not None:
        _set(facts, row, certificate_requested=Ternary.YES, certificate_requested_grade=Grade.OBSERVED)
        at = 1 + (request.body[0] if request.body else 0)
        authorities = _extension(request.body, at, _CERTIFICATE_AUTHORITIES)
        names = listed_names(authorities or b"", 0)
    elif server.finished:
        _set(facts, row, certificate_requested=Ternary.NO, certificate_requested_grade=Grade.OBSERVED)
    if (sent := _certificate(server)) is not None:
        facts["server_certificate_frame"][row] = sent[0].frame
    if (answer := _certificate(client)) is not None:
        presented = Ternary.YES if answer[1] else Ternary.NO
        _set(facts, row, client_certificate=presented, client_certificate_grade=Grade.OBSERVED)
        facts["client_flight_frame"][row] = answer[0].frame
    elif client.finished and not resumed:
        _set(facts, row, client_certificate=Ternary.NO, client_certificate_grade=Grade.OBSERVED)
    if client.finished and server.finished:
        _set(facts, row, established=Ternary.YES)
    return names


def _renegotiated(facts: Columns, row: int, flow: OpenedFlow) -> tuple[str, ...] | None:
    """What a second handshake of TLS 1.2, inside the first one's protection, asked and answered."""
    from analyzer.protocols.tls.names import requested_names

    request, answer = flow.server.first(_CERTIFICATE_REQUEST), _certificate(flow.client)
    if request is None:
        return None
    _set(facts, row, certificate_requested=Ternary.YES, certificate_requested_grade=Grade.OBSERVED)
    if answer is not None and (answer[1] or facts["client_certificate"][row] != Ternary.YES):
        presented = Ternary.YES if answer[1] else Ternary.NO
        _set(facts, row, client_certificate=presented, client_certificate_grade=Grade.OBSERVED)
        facts["client_flight_frame"][row] = answer[0].frame
    return requested_names(request.body, with_algorithms=True)


def _alerts(facts: Columns, row: int, flow: OpenedFlow) -> None:
    """First alert of each side that is more than the orderly end; a refusal of the server by the client."""
    for name, side in (("client", flow.client), ("server", flow.server)):
        alert = next((a for a in side.alerts if a.description not in _CLOSURE), None)
        if alert is not None and facts[f"{name}_alert"][row] < 0:
            _set(facts, row, **{f"{name}_alert": alert.description, f"{name}_alert_frame": alert.frame})
    refusal = next((a for a in flow.client.alerts if a.description in REFUSALS and a.before_finished), None)
    if refusal is not None:
        _set(facts, row, refused=Ternary.YES, refused_grade=Grade.OBSERVED, established=Ternary.NO)
        _set(facts, row, client_flight_frame=refusal.frame, client_alert_frame=refusal.frame)
        if facts["client_certificate"][row] != Ternary.YES:
            _set(facts, row, client_certificate=Ternary.NO, client_certificate_grade=Grade.OBSERVED)


def _completion(facts: Columns, row: int, flow: OpenedFlow) -> None:
    """Whether the client went on to use the connection, and whether anything is still open."""
    first = next((piece for piece in flow.client.data if piece.content), None)
    if first is not None:
        facts["application_data_frame"][row] = first.segments[0][1]
    if facts["established"][row] == Ternary.YES and facts["refused"][row] != Ternary.YES:
        used = first is not None and flow.client.finished
        if used:
            _set(facts, row, refused=Ternary.NO, refused_grade=Grade.OBSERVED)
    decided = all(
        facts[name][row] != Ternary.UNKNOWN for name in ("established", "certificate_requested", "client_certificate")
    )
    if decided and facts["client_hello_seen"][row] and facts["server_hello_seen"][row]:
        facts["unclear"][row] = -1


# ------------------------------------------------------------------------------------------ streams


def application_streams(opened: Mapping[int, OpenedFlow]) -> Opened:
    """The application data of every opened connection, laid out as the heads of plain streams are.

    A record that was lost leaves a hole of one octet: how long its content was is not known in TLS 1.3.
    """
    rows = [row for row, flow in opened.items() if flow.client.data or flow.server.data]
    layout = _Layout()
    for row in rows:
        for side in (opened[row].client, opened[row].server):
            layout.add(side)
    return Opened(layout.heads(), np.array(rows, np.int64))


class _Layout:
    def __init__(self) -> None:
        self._octets: list[bytes] = []
        self._lengths: list[int] = []
        self._holes: list[tuple[int, int, int]] = []
        self._segments: list[tuple[int, int]] = []
        self._segments_offsets = [0]

    def add(self, side: OpenedSide) -> None:
        stream, at = len(self._lengths), 0
        for piece in side.data:
            if not piece.segments:
                self._octets.append(b"\x00")
                self._holes.append((stream, at, at + 1))
                at += 1
                continue
            self._octets.append(piece.content)
            self._segments += [(at + position, frame) for position, frame in piece.segments]
            at += len(piece.content)
        self._lengths.append(at)
        self._segments_offsets.append(len(self._segments))

    def heads(self) -> StreamHeads:
        count = len(self._lengths)

        def column(values: Sequence[int]) -> I64:
            return np.array(values, np.int64)

        return StreamHeads(
            octets=np.frombuffer(b"".join(self._octets), np.uint8),
            offsets=np.concatenate([[0], np.cumsum(column(self._lengths))]).astype(np.int64),
            from_start=np.ones(count, bool),
            stop=np.full(count, HeadStop.COMPLETE, np.uint8),
            holes_stream=column([hole[0] for hole in self._holes]),
            holes_start=column([hole[1] for hole in self._holes]),
            holes_stop=column([hole[2] for hole in self._holes]),
            segments_offsets=column(self._segments_offsets),
            segment_position=column([position for position, _ in self._segments]),
            segment_frame=column([frame for _, frame in self._segments]),
            conflict=np.zeros(count, bool),
        )
