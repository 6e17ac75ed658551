"""Facts beside the handshake's outcome: retries, renegotiation, the number of CAs named."""

from __future__ import annotations

import pytest

from analyzer.protocols.tls.stacks import kubernetes_releases, releases, request_octets
from analyzer.registries import Grade, Ternary
from tests.heads_builder import build_heads
from tests.unit.protocols.tls.wire import (
    CHANGE,
    HANDSHAKE,
    RETRY,
    client_hello,
    connection_13,
    fact,
    read,
    record,
    server_hello,
)

FLIGHT = (32, 125, 842, 281, 53)
ANSWER = (860, 281, 53, 100)


@pytest.mark.parametrize("base", request_octets())
@pytest.mark.parametrize(("names", "number"), [((), 0), ((23,), 1), ((23, 27), 2)])
def test_cas_named_by_length(base: int, names: tuple[int, ...], number: int) -> None:
    length = 17 + base + (6 + sum(2 + n for n in names) if names else 0)
    reading = read(build_heads(connection_13(ANSWER, (32, length, 842, 281, 53))))
    assert (fact(reading, "authorities"), fact(reading, "authorities_grade")) == (number, Grade.INFERRED)


def test_a_length_that_fits_no_usual_list_stays_open() -> None:
    reading = read(build_heads(connection_13(ANSWER, (32, 333, 842, 281, 53))))
    assert (fact(reading, "authorities"), fact(reading, "authorities_grade")) == (-1, Grade.NONE)
    # Not asked: there is no list.
    reading = read(build_heads(connection_13((53, 100), (32, 842, 281, 53))))
    assert fact(reading, "authorities") == -1


def test_tls_1_3_has_no_renegotiation() -> None:
    assert fact(read(build_heads(connection_13(ANSWER, FLIGHT))), "renegotiated") == Ternary.NO


def test_a_retry_is_told_from_none() -> None:
    plain = connection_13(ANSWER, FLIGHT)
    assert fact(read(build_heads(plain)), "hello_retry") == Ternary.NO
    retry = record(HANDSHAKE, server_hello(random=RETRY))
    hello = record(HANDSHAKE, client_hello())
    streams = {0: hello + plain[0], 1: retry + CHANGE + plain[1]}
    assert fact(read(build_heads(streams)), "hello_retry") == Ternary.YES


def test_kubernetes_releases_are_those_of_measured_go_releases() -> None:
    assert set(kubernetes_releases()) <= {release.go for release in releases()}
