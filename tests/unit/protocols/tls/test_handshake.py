"""Handshake messages, however they are laid over records."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.heads_builder import build_heads
from tests.unit.protocols.tls.wire import (
    CHANGE,
    HANDSHAKE,
    RETRY,
    client_hello,
    fact,
    message,
    read,
    record,
    sealed,
    server_hello,
    table,
    vector,
)

CERTIFICATE = message(11, vector(3, vector(3, b"\x30\x03\x02\x01\x05")))
SERVER = (
    server_hello(0xC02F, ())
    + CERTIFICATE
    + message(12, b"\3\0\x1d" + bytes(60))
    + message(13, bytes(9))
    + message(14, b"")
)
CLIENT = message(11, vector(3, vector(3, b"\x30\x03\x02\x01\x05"))) + message(16, bytes(66))
FINISHED = record(HANDSHAKE, bytes(40))


def laid(octets: bytes, cuts: list[int]) -> bytes:
    """Handshake octets as records that end at `cuts`."""
    edges = [0, *sorted({c % len(octets) for c in cuts} - {0}), len(octets)]
    return b"".join(record(HANDSHAKE, octets[a:b]) for a, b in itertools.pairwise(edges))


def facts_of(hello: bytes, server: bytes, client: bytes) -> dict[str, object]:
    streams = {0: hello + client + CHANGE + FINISHED + sealed(40), 1: server + CHANGE + FINISHED + sealed(50)}
    (row,) = table(read(build_heads(streams)))
    return row


@settings(max_examples=40)
@given(st.lists(st.integers(0, 1 << 16), max_size=8), st.lists(st.integers(0, 1 << 16), max_size=8))
def test_facts_do_not_depend_on_how_messages_lie_in_records(server: list[int], client: list[int]) -> None:
    hello = client_hello()
    plain = facts_of(record(HANDSHAKE, hello), record(HANDSHAKE, SERVER), record(HANDSHAKE, CLIENT))
    cut = facts_of(laid(hello, client), laid(SERVER, server), laid(CLIENT, client))
    assert plain["client_certificate"] == 2
    assert plain["certificate_requested"] == 2
    assert plain["group"] == 29
    assert cut == plain


def test_a_retry_is_not_the_server_hello() -> None:
    retry = server_hello(0x1302, random=RETRY)
    streams = {
        0: record(HANDSHAKE, client_hello()) + CHANGE + record(HANDSHAKE, client_hello()) + sealed(53, 60),
        1: record(HANDSHAKE, retry) + CHANGE + record(HANDSHAKE, server_hello(0x1301)) + sealed(32, 842, 281, 53, 70),
    }
    reading = read(build_heads(streams))
    assert fact(reading, "cipher_suite") == 0x1301
    assert fact(reading, "certificate_requested") == 1
    assert fact(reading, "client_certificate") == 1
    assert fact(reading, "established") == 2
    # The retry alone: no ServerHello yet.
    reading = read(build_heads({0: streams[0], 1: record(HANDSHAKE, retry)}))
    assert not fact(reading, "server_hello_seen")
    assert fact(reading, "version") == 0


def test_an_encrypted_finished_is_not_read_as_a_message() -> None:
    # Under the new keys any octets may come: here those of a message that would fit its record.
    fake = record(HANDSHAKE, CERTIFICATE)
    streams = {
        0: record(HANDSHAKE, client_hello()) + CHANGE + fake + sealed(40),
        1: record(HANDSHAKE, server_hello(0xC02F, ())) + CHANGE + fake + sealed(50),
    }
    reading = read(build_heads(streams))
    assert fact(reading, "server_chain") == -1
    assert fact(reading, "client_chain") == -1
    assert fact(reading, "resumed") == 2


def test_many_empty_messages_do_not_run_away() -> None:
    flood = record(HANDSHAKE, message(0, b"") * 4000)
    reading = read(build_heads({0: flood, 1: flood}))
    assert not fact(reading, "client_hello_seen")


def test_after_a_gap_only_whole_messages_are_believed() -> None:
    start = record(HANDSHAKE, server_hello(0xC02F, ()))
    lost = record(HANDSHAKE, bytes(50))
    # What stands there could be a Finished under new keys, whose first octet happens to be a message type.
    for body, believed in ((CERTIFICATE, True), (CERTIFICATE + b"x", False), (b"\x0b" + bytes(30), False)):
        streams = {0: record(HANDSHAKE, client_hello()), 1: start + lost + record(HANDSHAKE, body)}
        reading = read(build_heads(streams, holes={1: [(len(start), len(start) + len(lost))]}))
        assert (fact(reading, "server_certificate_len") > 0) is believed
        assert fact(reading, "certificate_requested") == 0


def test_octets_behind_a_hole_are_not_moved_up() -> None:
    """A message that spans records, with a hole in the middle one: what follows has lost its place."""
    octets = record(HANDSHAKE, SERVER[:100])
    middle = record(HANDSHAKE, bytes(40))
    rest = record(HANDSHAKE, SERVER[100:])
    streams = {0: record(HANDSHAKE, client_hello()), 1: octets + middle + rest}
    hole = (len(octets) + 5, len(octets) + len(middle))
    reading = read(build_heads(streams, holes={1: [hole]}))
    assert fact(reading, "certificate_requested") == 0
    assert fact(reading, "unclear") is not None


def test_a_list_that_contradicts_its_message_is_no_answer() -> None:
    client = message(11, vector(3, vector(3, b"\x30\x03\x02\x01\x05")) + b"more") + message(16, bytes(66))
    row = facts_of(record(HANDSHAKE, client_hello()), record(HANDSHAKE, SERVER), record(HANDSHAKE, client))
    assert row["client_certificate"] == 0


def test_a_hole_in_the_hello_is_said() -> None:
    hello = record(HANDSHAKE, client_hello())
    server = record(HANDSHAKE, server_hello()) + CHANGE + sealed(32, 842, 281, 53, 70)
    streams = {0: hello + CHANGE + sealed(53, 60), 1: server}
    whole = table(read(build_heads(streams)))[0]
    assert whole["unclear"] is None
    holed = table(read(build_heads(streams, holes={0: [(70, len(hello))]})))[0]
    # The hello is gone, the records behind it are still where its header says.
    assert (holed["ja3"], holed["ja4"], holed["sni"], holed["max_offered"]) == (None, None, None, 0)
    assert "hello" in holed["unclear"]
    for column in ("version", "client_certificate", "certificate_requested", "established", "refused"):
        assert holed[column] == whole[column]
