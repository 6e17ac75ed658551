"""Certificate messages in clear: chains, their certificates, and the names a server asks for."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.protocols.tls.distinct import distinct_ranges
from analyzer.protocols.tls.names import requested_names
from analyzer.protocols.tls.view import Handshakes
from analyzer.registries import TlsVersion
from analyzer.schema import I32, I64, Certificate

MAX_CHAIN: Final = 32
"""Certificates read of one chain; OpenSSL's default verify depth is 100, chains of clusters have three at most."""


class ChainPool:
    """Distinct certificates and chains, numbered in the order they are first seen."""

    def __init__(self) -> None:
        self._certificates: dict[bytes, int] = {}
        self._parsed: list[Certificate] = []
        self._chains: dict[tuple[int, ...], int] = {}

    def _certificate(self, der: bytes) -> int:
        row = self._certificates.get(der)
        if row is None:
            from analyzer.protocols.tls.certificates import parse_certificate

            row = self._certificates[der] = len(self._parsed)
            self._parsed.append(parse_certificate(der))
        return row

    def _chain(self, body: bytes) -> int:
        # Imported where a certificate is met: `cryptography` costs as much to load as a small capture to read.
        from analyzer.protocols.tls.certificates import chain_ders

        ders = chain_ders(body)
        return self.number(ders) if ders else -1

    def number(self, ders: tuple[bytes, ...]) -> int:
        """Row of the chain of these certificates, leaf first; at least one."""
        chain = tuple(self._certificate(der) for der in ders[:MAX_CHAIN])
        return self._chains.setdefault(chain, len(self._chains))

    def column(self, view: Handshakes, message: I64) -> I32:
        """Chain of each Certificate message (T,), as far as its octets are known; -1 = none visible."""
        column = np.full(view.count, -1, np.int32)
        for octets, flows, rows in view.located(message):
            start, known = view.messages.start[rows], view.messages.known[rows]
            ids, first = distinct_ranges(octets, start, known)
            chains = [self._chain(octets[start[row] : known[row]].tobytes()) for row in first.tolist()]
            column[flows] = np.array(chains or [-1], np.int32)[ids]
        return column

    def certificates(self) -> tuple[Certificate, ...]:
        """All certificates, by row."""
        return tuple(self._parsed)

    def chains(self) -> tuple[tuple[int, ...], ...]:
        """All chains, by row: rows of `certificates`, leaf first."""
        return tuple(self._chains)


def requested_by_flow(view: Handshakes, request: I64) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Names of the CAs each flow's CertificateRequest (T,) lists, for ``TlsReading.requested_names``."""
    found: list[tuple[int, tuple[str, ...]]] = []
    for octets, flows, rows in view.located(request):
        start, known = view.messages.start[rows], view.messages.known[rows]
        newer = view.version[flows] == TlsVersion.TLS_1_2
        # A request that is not whole, or of a version that is not known, cannot be taken apart safely.
        usable = (known == view.messages.stop[rows]) & (view.version[flows] > 0)
        flows, start, known, newer = flows[usable], start[usable], known[usable], newer[usable]
        ids, first = distinct_ranges(octets, start, known)
        read = {
            with_algorithms: [
                requested_names(octets[start[row] : known[row]].tobytes(), with_algorithms=with_algorithms)
                for row in first.tolist()
            ]
            for with_algorithms in set(newer.tolist())
        }
        found.extend(
            (flow, read[kind][number])
            for flow, kind, number in zip(view.flows[flows].tolist(), newer.tolist(), ids.tolist(), strict=True)
        )
    return tuple(sorted(found))
