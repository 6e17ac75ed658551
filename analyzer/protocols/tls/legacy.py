"""TLS 1.2 and earlier, SSL 3.0: certificates are in clear, and so is nearly every answer (RFC 5246 7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.protocols.tls.extents import u16, u24
from analyzer.protocols.tls.handshake import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CLIENT_KEY_EXCHANGE,
    SERVER_HELLO_DONE,
    SERVER_KEY_EXCHANGE,
)
from analyzer.protocols.tls.suites import flagged
from analyzer.protocols.tls.view import Handshakes
from analyzer.registries import Ternary
from analyzer.schema import I64, U8, Mask

_NAMED_CURVE: Final = 3
"""ECCurveType, RFC 8422 5.4."""
_FATAL: Final = 2
_NO_CERTIFICATE: Final = 41
"""An SSL 3.0 client's answer to a CertificateRequest it has no certificate for (RFC 6101 5.6.6)."""


@dataclass(frozen=True, slots=True)
class ClearHandshakes:
    """What the clear messages of T flows show, whatever their version; -1 = no such message.

    Attributes
    ----------
    server_certificate, client_certificate, request, key_exchange : (T,) int64
        Message rows of the first Certificate of each side, of CertificateRequest and of ClientKeyExchange.
    requested, presented, resumed, established : (T,) uint8
        `Ternary`, meaningful up to TLS 1.2.
    group : (T,) int64
        Named curve of the ServerKeyExchange; 0 = none.
    """

    server_certificate: I64
    client_certificate: I64
    request: I64
    key_exchange: I64
    requested: U8
    presented: U8
    resumed: U8
    established: U8
    group: I64


def ternary(yes: Mask, no: Mask) -> U8:
    """YES where `yes`, else NO where `no`, else UNKNOWN."""
    return np.where(yes, Ternary.YES, np.where(no, Ternary.NO, Ternary.UNKNOWN)).astype(np.uint8)


def read_clear(view: Handshakes) -> ClearHandshakes:
    """Read the clear handshakes of all flows of `view`."""
    count = view.count
    certificate = view.first_message(CERTIFICATE, server=True)
    request = view.first_message(CERTIFICATE_REQUEST, server=True)
    done = view.first_message(SERVER_HELLO_DONE, server=True)
    exchange = view.first_message(SERVER_KEY_EXCHANGE, server=True)
    answer = view.first_message(CERTIFICATE, server=False)
    key_exchange = view.first_message(CLIENT_KEY_EXCHANGE, server=False)

    # A full handshake has ServerHelloDone; without it the server goes straight to ChangeCipherSpec (RFC 5246 7.3).
    straight = view.since_hello(view.change_cipher[count:], server=True) & (view.server_hello >= 0) & ~view.is_13
    resumed = straight & (certificate < 0) & (exchange < 0) & (done < 0)
    full = (done >= 0) | (certificate >= 0) | (exchange >= 0)

    requested = ternary(request >= 0, view.since_hello(view.record_of(done), server=True) | resumed)
    length = _list_length(view, answer)
    no_certificate = view.alerts[1][:count] == _NO_CERTIFICATE
    silent = (answer < 0) & view.since_hello(view.record_of(key_exchange), server=False)
    absent = (length == 0) | no_certificate | ((requested == Ternary.NO) & ~resumed & (answer < 0)) | silent
    return ClearHandshakes(
        certificate,
        answer,
        request,
        key_exchange,
        requested,
        ternary(length > 0, absent),
        ternary(resumed, full),
        _established(view),
        _named_curve(view, exchange),
    )


def _list_length(view: Handshakes, message: I64) -> I64:
    """Octets of the list in each Certificate message; -1 where unknown or not one (RFC 5246 7.4.2)."""
    length = np.full(view.count, -1, np.int64)
    for octets, flows, rows in view.located(message):
        start, stop = view.messages.start[rows], view.messages.stop[rows]
        readable = view.messages.known[rows] >= start + 3
        flows, start, stop = flows[readable], start[readable], stop[readable]
        value = u24(octets, start)
        fits = start + 3 + value == stop
        length[flows[fits]] = value[fits]
    return length


def _established(view: Handshakes) -> U8:
    """Both sides changed ciphers and sent a Finished under them, and no fatal alert came in clear."""
    count = view.count
    sealed = view.sealed_handshake()
    fatal = view.alerts[0] == _FATAL
    stopped = fatal[:count] | fatal[count:]
    return ternary(sealed[:count] & sealed[count:] & ~stopped, stopped)


def _named_curve(view: Handshakes, exchange: I64) -> I64:
    """The named curve of ServerKeyExchange messages of ECDHE suites (RFC 8422 5.4)."""
    group = np.zeros(view.count, np.int64)
    for octets, flows, rows in view.located(exchange):
        start = view.messages.start[rows]
        readable = (view.messages.known[rows] >= start + 3) & flagged(view.cipher[flows], "ecdhe")
        # ECDHE_PSK puts an identity hint before the curve (RFC 5489 2).
        readable &= ~flagged(view.cipher[flows], "psk")
        flows, start = flows[readable], start[readable]
        named = octets[start] == _NAMED_CURVE
        group[flows[named]] = u16(octets, start[named] + 1)
    return group
