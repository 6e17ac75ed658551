"""Hellos: fields against the octets they were built from, truncations, mutations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.heads_builder import build_heads
from tests.unit.protocols.tls.wire import (
    HANDSHAKE,
    alpn,
    client_hello,
    extension,
    fact,
    hello_extensions,
    message,
    numbers,
    read,
    record,
    server_hello,
    table,
    vector,
)

NAMES = st.from_regex(r"[a-z0-9.-]{1,60}", fullmatch=True)
CODES = st.lists(st.integers(1, 0xFFFF), min_size=1, max_size=8)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.none() | NAMES, st.lists(NAMES, max_size=3), CODES, CODES, st.integers(0x0301, 0x0304)),
        min_size=1,
        max_size=5,
    )
)
def test_many_hellos_together_give_what_each_was_built_from(cases: list[tuple[Any, ...]]) -> None:
    streams = {}
    for row, (name, protocols, groups, ciphers, version) in enumerate(cases):
        offers = hello_extensions(
            name.encode() if name else None, [p.encode() for p in protocols], groups, (version, 0x0301)
        )
        streams[2 * row] = record(HANDSHAKE, client_hello(offers, ciphers))
    reading = read(build_heads(streams))
    for row, (name, protocols, groups, _, version) in enumerate(cases):
        assert fact(reading, "sni", row) == name
        assert fact(reading, "alpn_offered", row) == (",".join(protocols) or None)
        assert fact(reading, "groups_offered", row) == "-".join(map(str, groups))
        assert fact(reading, "max_offered", row) == max(version, 0x0301)


def test_every_truncation_of_a_client_hello() -> None:
    octets = record(HANDSHAKE, client_hello(hello_extensions(b"api.example")))
    whole = table(read(build_heads({0: octets})))[0]
    known: dict[str, int] = {}
    # All truncations side by side, each a flow of its own.
    rows = table(read(build_heads({2 * size: octets[:size] for size in range(len(octets))})))
    for size, row in enumerate(rows):
        assert row["ja3"] is None
        assert row["ja4"] is None
        assert row["unclear"] is not None
        for column in ("sni", "alpn_offered", "groups_offered", "max_offered", "client_hello_seen"):
            # A field appears once, whole, and stays.
            if row[column] == whole[column]:
                known.setdefault(column, size)
            else:
                assert column not in known
                assert row[column] in (None, 0, False)
    assert known["client_hello_seen"] < known["sni"] < known["groups_offered"] < known["alpn_offered"]
    assert known["alpn_offered"] < known["max_offered"] < len(octets)


def test_every_truncation_of_a_server_hello() -> None:
    hello = record(HANDSHAKE, client_hello())
    octets = record(HANDSHAKE, server_hello())
    streams = {2 * size + side: (hello, octets[:size])[side] for size in range(len(octets)) for side in (0, 1)}
    for size, row in enumerate(table(read(build_heads(streams)))):
        seen = size >= 5 + 4 + 2 + 32 + 1 + 32 + 2
        assert row["server_hello_seen"] is seen
        # The suite alone tells the version: RFC 8446 B.4.
        assert (row["version"], row["cipher_suite"]) == ((0x0304, 0x1301) if seen else (0, 0))
        assert row["ja3s"] is None
    row = table(read(build_heads({0: hello, 1: octets})))[0]
    assert (row["version"], row["group"], row["ja3s"]) == (0x0304, 29, "f4febc55ea12b31ae17cfb7e614afda8")


@pytest.mark.parametrize(
    ("field", "cipher", "extensions", "version"),
    [
        (0x0303, 0x1301, [extension(43, b"\3\4")], 0x0304),
        (0x0303, 0xC02F, [], 0x0303),
        (0x0303, 0xC02F, [extension(65281, b"\0")], 0x0303),
        (0x0301, 0x002F, [], 0x0301),
        (0x0300, 0x0005, [], 0x0300),
        (0x0303, 0x1301, [extension(43, b"\x7f\x1c")], 0x7F1C),
    ],
)
def test_the_version_is_what_the_server_chose(field: int, cipher: int, extensions: list[bytes], version: int) -> None:
    reading = read(build_heads({0: b"", 1: record(HANDSHAKE, server_hello(cipher, extensions, field))}))
    assert fact(reading, "version") == version
    assert fact(reading, "cipher_suite") == cipher


def test_an_early_draft_has_no_session_id() -> None:
    # draft-ietf-tls-tls13-18 4.1.3: version, random, suite, extensions.
    body = numbers(0x7F12) + bytes(32) + numbers(0x1301) + vector(2, extension(51, numbers(29) + vector(2, bytes(32))))
    reading = read(build_heads({1: record(HANDSHAKE, message(2, body))}))
    assert (fact(reading, "version"), fact(reading, "cipher_suite"), fact(reading, "group")) == (0x7F12, 0x1301, 29)


def test_an_ssl2_hello_offers_what_its_version_says() -> None:
    suites = b"\0\0\x35" + b"\7\0\xc0"
    body = b"\1\3\1" + numbers(len(suites), 0, 16) + suites + bytes(16)
    octets = bytes([0x80, len(body)]) + body
    reading = read(build_heads({0: octets, 1: record(HANDSHAKE, server_hello(0x0035, (), 0x0301))}))
    assert fact(reading, "client_hello_seen")
    assert (fact(reading, "max_offered"), fact(reading, "version")) == (0x0301, 0x0301)
    for size in range(len(octets)):
        assert fact(read(build_heads({0: octets[:size]})), "max_offered") in (0, 0x0301)


def test_grease_is_no_version() -> None:
    reading = read(build_heads({0: record(HANDSHAKE, client_hello(hello_extensions(versions=(0x7A7A, 0x0303))))}))
    assert fact(reading, "max_offered") == 0x0303


@pytest.mark.parametrize(
    "broken",
    [
        extension(0, b"\xff\xff\0\0\1a"),
        extension(0, b"\0\4\0\xff\xffa"),
        extension(16, b"\0\5\xffh2"),
        extension(10, b"\xff"),
        extension(43, b""),
        extension(13, b"\xff\xff\4"),
    ],
)
def test_a_broken_extension_spoils_only_itself(broken: bytes) -> None:
    offers = [e for e in hello_extensions(b"name") if e[:2] != broken[:2]]
    reading = read(build_heads({0: record(HANDSHAKE, client_hello([*offers, broken]))}))
    assert fact(reading, "client_hello_seen")
    assert fact(reading, "ja3") is not None
    assert fact(reading, "sni") == (None if broken[:2] == b"\0\0" else "name")


def test_a_length_that_contradicts_is_malformed_not_cut() -> None:
    hello = bytearray(client_hello())
    hello[4 + 34 + 33 + 1] = 0xFE  # cipher suites longer than the message
    reading = read(build_heads({0: record(HANDSHAKE, bytes(hello))}))
    assert fact(reading, "unclear") == "the client's hello is malformed"


def test_names_cannot_steer_a_terminal() -> None:
    reading = read(
        build_heads({0: record(HANDSHAKE, client_hello([*hello_extensions(b"a\x1b[2Jb", ()), alpn(b"\xba\xad")]))})
    )
    assert fact(reading, "sni") == r"a\x1b[2Jb"
    assert fact(reading, "alpn_offered") == r"\xba\xad"


@given(st.data())
def test_no_mutation_raises(data: st.DataObject) -> None:
    streams = {
        0: bytearray(record(HANDSHAKE, client_hello(hello_extensions(b"name")))),
        1: bytearray(
            record(HANDSHAKE, server_hello(0xC02F, ()))
            + record(HANDSHAKE, message(11, vector(3, vector(3, bytes(40)))) + message(14, b""))
        ),
    }
    for stream in streams.values():
        for _ in range(data.draw(st.integers(1, 6))):
            stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    hole = data.draw(st.integers(0, 200))
    heads = build_heads(
        {k: bytes(v) for k, v in streams.items()}, holes={0: [(hole, min(hole + 7, len(streams[0])))]} if hole else None
    )
    reading = read(heads)
    assert len(reading.facts) == 1
    assert all(text.isprintable() for text in reading.strings)


def test_octets_in_a_hole_are_never_read() -> None:
    octets = record(HANDSHAKE, client_hello(hello_extensions(b"api.example")))
    answer = record(HANDSHAKE, server_hello())
    for start in range(0, len(octets), 7):
        rows = []
        for filler in (0x00, 0xFF):
            heads = build_heads({0: octets, 1: answer}, holes={0: [(start, start + 9)]})
            changed = heads.octets.copy()
            changed[start : start + 9] = filler
            rows.append(table(read(type(heads)(changed, *[getattr(heads, n) for n in list(heads.__slots__)[1:]]))))
        assert rows[0] == rows[1]
