"""TLS 1.3 by record lengths: the table of the facts, and everything that must stay open."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from analyzer.registries import Grade, HeadStop, Ternary
from tests.heads_builder import build_heads
from tests.unit.protocols.tls.wire import (
    ALERT,
    CHANGE,
    HANDSHAKE,
    client_hello,
    connection_13,
    extension,
    fact,
    hello_extensions,
    numbers,
    read,
    record,
    sealed,
    server_hello,
    vector,
)

YES, NO, UNKNOWN = int(Ternary.YES), int(Ternary.NO), int(Ternary.UNKNOWN)
FIN = (1, 1)


@pytest.mark.parametrize(
    ("client", "server", "requested", "presented", "client_key", "server_key"),
    [
        ((53, 90), (32, 842, 281, 53, 80), NO, NO, None, "rsa-2048"),
        ((25, 53, 90), (23, 93, 1614, 281, 53, 80), YES, NO, None, "rsa-2048"),
        ((860, 281, 53, 90), (23, 113, 1614, 281, 53, 80), YES, YES, "rsa-2048", "rsa-2048"),
        ((465, 95, 53, 90), (36, 154, 664, 97, 53, 80), YES, YES, "ecdsa-p256", "ecdsa-p256"),
        ((1617, 281, 53, 90), (32, 125, 970, 409, 53, 80), YES, YES, "rsa-2048", "rsa-3072"),
        ((600, 128, 53, 90), (32, 125, 970, 537, 53, 80), YES, YES, "ecdsa-p384", "rsa-4096"),
        ((430, 89, 53, 90), (32, 125, 430, 89, 53, 80), YES, YES, "ed25519", "ed25519"),
        # Certificate and Finished in one record: nothing else can be 44 octets long there.
        ((61, 90), (32, 125, 970, 281, 53, 80), YES, NO, None, "rsa-2048"),
        # A whole flight in one record, from a client that was asked.
        ((1177, 90), (32, 125, 970, 281, 53, 80), YES, YES, None, "rsa-2048"),
    ],
)
def test_flights_of_the_facts_table(
    client: Sequence[int],
    server: Sequence[int],
    requested: int,
    presented: int,
    client_key: str | None,
    server_key: str | None,
) -> None:
    reading = read(build_heads(connection_13(client, server)))
    assert fact(reading, "certificate_requested") == requested
    assert fact(reading, "client_certificate") == presented
    assert fact(reading, "certificate_requested_grade") == Grade.INFERRED
    assert fact(reading, "client_certificate_grade") == Grade.INFERRED
    assert (fact(reading, "client_key"), fact(reading, "server_key")) == (client_key, server_key)
    assert fact(reading, "unclear") is None or client[0] == 1177
    assert fact(reading, "server_certificate_len") == server[1 if requested == NO else 2]
    assert fact(reading, "client_certificate_len") == (client[0] if presented == YES else 0)


@pytest.mark.parametrize(
    ("cipher", "finished", "overhead"),
    [(0x1301, 53, 17), (0x1302, 69, 17), (0x1303, 53, 17), (0x1304, 53, 17), (0x1305, 45, 9), (0xC0B4, 69, 33)],
)
def test_tag_and_hash_are_those_of_the_suite(cipher: int, finished: int, overhead: int) -> None:
    def flights(finished: int) -> dict[int, bytes]:
        server = (6 + overhead, 800 + overhead, 264 + overhead, finished, 80)
        return connection_13((finished, 90), server, answer=server_hello(cipher))

    assert fact(read(build_heads(flights(finished))), "client_certificate") == NO
    assert fact(read(build_heads(flights(finished + 1))), "client_certificate") == UNKNOWN


@pytest.mark.parametrize(
    ("length", "name", "offers", "chosen"),
    [
        (23, None, (b"h2", b"http/1.1"), None),
        (32, None, (b"h2", b"http/1.1"), "h2"),
        (36, b"x", (b"h2", b"http/1.1"), "h2"),
        (32, b"x", (b"h2", b"http/1.1"), "h2"),
        (38, None, (b"h2", b"http/1.1"), "http/1.1"),
        (42, b"x", (b"h2", b"http/1.1"), "http/1.1"),
        (27, b"x", (b"h2", b"http/1.1"), None),
    ],
)
def test_alpn_by_the_length_of_encrypted_extensions(
    length: int, name: bytes | None, offers: tuple[bytes, ...], chosen: str | None
) -> None:
    hello = client_hello(hello_extensions(name, offers))
    reading = read(build_heads(connection_13((53, 90), (length, 842, 281, 53, 80), hello)))
    assert fact(reading, "alpn") == chosen
    assert fact(reading, "alpn_grade") == Grade.INFERRED


@pytest.mark.parametrize(
    ("length", "name", "offers"),
    [
        (36, None, (b"h2", b"http/1.1")),  # no name was sent, so none is acknowledged
        (32, None, (b"h2", b"h3")),  # two offers of one length
        (36, b"x", (b"h2", b"spdy/3")),  # h2 and the name, or a protocol of six octets
        (57, None, (b"h2",)),
    ],
)
def test_alpn_that_two_causes_explain_stays_open(length: int, name: bytes | None, offers: tuple[bytes, ...]) -> None:
    hello = client_hello(hello_extensions(name, offers))
    reading = read(build_heads(connection_13((53, 90), (length, 842, 281, 53, 80), hello)))
    assert fact(reading, "alpn") is None
    assert fact(reading, "alpn_grade") == Grade.NONE


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ((400,), (4000,)),  # both sides coalesce
        ((860, 300, 53), (4000, 90)),  # no signature has that size
        ((25, 54), (4000,)),
        ((860, 281, 53), (32, 842, 281, 53)),  # presented, but not asked: contradiction
        ((25, 53), (32, 842, 281, 53)),
        ((53,), (32, 125, 842, 281, 53)),  # asked, but no Certificate
        ((), (32, 31, 842, 281, 53)),  # a CertificateRequest cannot be that short
        ((), ()),
        ((), (4000,)),
    ],
)
def test_flights_that_fit_no_pattern_stay_open(client: Sequence[int], server: Sequence[int]) -> None:
    reading = read(build_heads(connection_13(client, server)))
    assert fact(reading, "client_certificate") == UNKNOWN
    assert fact(reading, "certificate_requested") == UNKNOWN
    assert fact(reading, "unclear") is not None


def test_one_side_can_decide_for_both() -> None:
    # The server puts its flight into one record; the client's tells all.
    reading = read(build_heads(connection_13((25, 53, 90), (1400, 80))))
    assert (fact(reading, "certificate_requested"), fact(reading, "client_certificate")) == (YES, NO)
    # The client's flight is missing; a server that did not ask settles it.
    reading = read(build_heads(connection_13((), (32, 842, 281, 53))))
    assert (fact(reading, "certificate_requested"), fact(reading, "client_certificate")) == (NO, NO)
    # One that asked does not.
    reading = read(build_heads(connection_13((), (32, 125, 842, 281, 53))))
    assert (fact(reading, "certificate_requested"), fact(reading, "client_certificate")) == (YES, UNKNOWN)
    assert fact(reading, "unclear") == "the handshake was not finished when the capture ended"


def test_early_data_and_sessions_stay_open() -> None:
    early = client_hello([*hello_extensions(), extension(42)])
    reading = read(build_heads(connection_13((25, 53, 90), (32, 125, 842, 281, 53, 80), early)))
    assert fact(reading, "client_certificate") == UNKNOWN
    assert "early data" in fact(reading, "unclear")
    accepted = server_hello(
        extensions=(extension(43, b"\3\4"), extension(51, numbers(29) + vector(2, bytes(32))), extension(41, b"\0\0"))
    )
    reading = read(build_heads(connection_13((53, 90), (32, 53, 80), answer=accepted)))
    assert fact(reading, "resumed") == YES
    assert fact(reading, "established") == YES
    assert (fact(reading, "certificate_requested"), fact(reading, "client_certificate")) == (NO, UNKNOWN)
    assert "resumed" in fact(reading, "unclear")


SERVER = (32, 125, 842, 281, 53)


def test_gos_refusal_pattern() -> None:
    streams = connection_13((19,), SERVER)
    reading = read(build_heads(streams), FIN)
    assert (fact(reading, "refused"), fact(reading, "refused_grade")) == (YES, Grade.INFERRED)
    assert fact(reading, "client_certificate") == NO
    assert fact(reading, "established") == NO
    assert fact(reading, "client_flight_frame") > 0


@pytest.mark.parametrize("what", ["open", "more", "limit", "hole", "server not finished", "finished", "bigger"])
def test_what_is_not_gos_refusal_pattern(what: str) -> None:
    closed = (0, 1) if what == "open" else FIN
    client = {"more": (19, 60), "finished": (25, 53, 19), "bigger": (20,)}.get(what, (19,))
    streams = connection_13(client, SERVER[:-1] if what == "server not finished" else SERVER)
    end = len(streams[0])
    heads = build_heads(
        streams,
        stop={0: HeadStop.LIMIT} if what == "limit" else None,
        holes={0: [(end - 24, end)]} if what == "hole" else None,
    )
    assert fact(read(heads, closed), "refused") == UNKNOWN


@pytest.mark.parametrize("description", [42, 43, 44, 45, 46, 48])
def test_a_certificate_alert_in_clear_is_a_refusal(description: int) -> None:
    streams = connection_13((), SERVER)
    streams[0] += record(ALERT, bytes([2, description]))
    reading = read(build_heads(streams))
    assert (fact(reading, "refused"), fact(reading, "refused_grade")) == (YES, Grade.OBSERVED)
    assert fact(reading, "client_alert") == description
    assert fact(reading, "client_alert_frame") > 0
    assert (fact(reading, "client_certificate"), fact(reading, "client_certificate_grade")) == (NO, Grade.OBSERVED)


def test_other_alerts_and_the_servers_are_no_refusal() -> None:
    streams = connection_13((), SERVER)
    streams[0] += record(ALERT, b"\2\x28")
    assert fact(read(build_heads(streams)), "refused") == UNKNOWN
    streams = connection_13((25, 53), SERVER)
    streams[1] += record(ALERT, b"\2\x2a")
    reading = read(build_heads(streams), FIN)
    assert fact(reading, "refused") == UNKNOWN
    assert fact(reading, "server_alert") == -1  # after encrypted records an alert in clear is not believed
    hello = record(HANDSHAKE, client_hello())
    reading = read(build_heads({0: hello, 1: record(ALERT, b"\2\x46")}), FIN)
    assert (fact(reading, "server_alert"), fact(reading, "established")) == (70, NO)


def test_a_finished_connection_without_data_does_not_say_that_nothing_was_refused() -> None:
    for client, refused in (((25, 53), UNKNOWN), ((25, 53, 19), UNKNOWN), ((25, 53, 19, 40), NO), ((25, 53, 60), NO)):
        reading = read(build_heads(connection_13(client, (*SERVER, 70))), FIN)
        assert fact(reading, "established") == YES
        assert fact(reading, "refused") == refused


@pytest.mark.parametrize(
    ("server", "answer"),
    [
        ((23, 130, 1614, 281, 53), YES),
        ((23, 130, 1714, 281, 53), YES),
        ((23, 130, 887, 281, 53), UNKNOWN),
        ((23, 130, 1614, 409, 53), UNKNOWN),
        ((36, 463, 96, 53), UNKNOWN),
        ((23, 130, 1614, 281), UNKNOWN),
    ],
)
def test_the_kubelets_own_chain_by_its_length(server: Sequence[int], answer: int) -> None:
    reading = read(build_heads(connection_13((25, 53, 90), server)))
    assert fact(reading, "server_self_made") == answer
    assert fact(reading, "server_self_made_grade") == (Grade.INFERRED if answer else Grade.NONE)
    # A server that Go would not be: no claim.
    reading = read(build_heads(connection_13((25, 69, 90), server, answer=server_hello(0x1302))))
    assert fact(reading, "server_self_made") == UNKNOWN


def test_a_gap_before_the_flight_leaves_it_open_unless_the_cipher_change_marks_it() -> None:
    streams = connection_13((25, 53, 90), (32, 125, 842, 281, 53, 80))
    hello = len(record(HANDSHAKE, client_hello()))
    # The second half of the hello is lost with the header that follows it: the ChangeCipherSpec is not seen.
    lost = build_heads(streams, holes={0: [(hello - 50, hello + len(CHANGE))]})
    reading = read(lost)
    assert fact(reading, "client_certificate") == UNKNOWN
    assert "client" in fact(reading, "unclear")
    marked = build_heads(streams, holes={0: [(0, hello)]})
    reading = read(marked)
    assert not fact(reading, "client_hello_seen")
    assert fact(reading, "client_certificate") == NO


def test_a_lost_record_among_the_servers_is_never_bridged() -> None:
    streams = connection_13((), SERVER)
    start = len(record(HANDSHAKE, server_hello())) + len(CHANGE)
    request = start + len(sealed(32))
    # The whole CertificateRequest record is lost: without it the flight would read "not asked".
    heads = build_heads(streams, holes={1: [(request, request + len(sealed(125)))]})
    reading = read(heads)
    assert fact(reading, "certificate_requested") == UNKNOWN
    assert fact(reading, "client_certificate") == UNKNOWN
    # Only its body is lost: the lengths are all there.
    heads = build_heads(streams, holes={1: [(request + 5, request + 100)]})
    assert fact(read(heads), "certificate_requested") == YES
