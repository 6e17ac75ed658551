"""The record walk against a plain walk, and what it does at gaps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.tls.extents import Extents
from analyzer.protocols.tls.records import MAX_RECORDS, RecordWalk, WalkEnd, walk_records
from analyzer.schema import StreamHeads
from tests.heads_builder import build_heads
from tests.unit.protocols.tls.wire import CCS, CHANGE, DATA, HANDSHAKE, record, sealed


def walk(heads: StreamHeads) -> RecordWalk:
    return walk_records(heads, np.arange(len(heads)), Extents.of(heads))


def rows(result: RecordWalk, heads: StreamHeads, stream: int = 0) -> list[tuple[int, int, int, bool]]:
    """(content type, position, body length, gap before) of one stream's records."""
    of = slice(result.begin[stream], result.begin[stream + 1])
    r = result.records
    return [
        (int(k), int(h - heads.offsets[stream]), int(b - a), bool(g))
        for k, h, a, b, g in zip(r.kind[of], r.header[of], r.start[of], r.stop[of], r.gap[of], strict=True)
    ]


def plain_walk(octets: bytes) -> list[tuple[int, int, int, bool]]:
    found, at = [], 0
    while at + 5 <= len(octets):
        length = int.from_bytes(octets[at + 3 : at + 5])
        found.append((octets[at], at, length, False))
        at += 5 + length
    return found


BODIES = st.lists(st.tuples(st.integers(20, 23), st.integers(0, 60)), max_size=12)


@given(st.lists(BODIES, min_size=1, max_size=6), st.integers(0, 400))
def test_many_streams_together_are_walked_as_one_by_one(streams: list[list[tuple[int, int]]], cut: int) -> None:
    octets = [b"".join(record(kind, b"\xee" * size) for kind, size in of)[:cut] for of in streams]
    heads = build_heads(dict(enumerate(octets)))
    result = walk(heads)
    for stream, whole in enumerate(octets):
        assert rows(result, heads, stream) == plain_walk(whole)
        assert result.end[stream] in (WalkEnd.END, WalkEnd.MALFORMED if not plain_walk(whole) else WalkEnd.END)


def test_a_body_in_a_hole_is_stepped_over() -> None:
    octets = record(HANDSHAKE, bytes(100)) + CHANGE + sealed(53)
    heads = build_heads({0: octets}, holes={0: [(20, 90)]})
    result = walk(heads)
    assert rows(result, heads) == [(HANDSHAKE, 0, 100, False), (CCS, 105, 1, False), (DATA, 111, 53, False)]
    assert result.records.known[0] == 20
    assert result.records.known[1] == result.records.stop[1]


def test_a_header_in_a_hole_ends_the_walk_and_a_later_segment_resumes_it() -> None:
    octets = record(HANDSHAKE, bytes(100)) + sealed(30) + CHANGE + sealed(53)
    heads = build_heads({0: octets}, holes={0: [(107, 140)]})
    result = walk(heads)
    assert rows(result, heads) == [(HANDSHAKE, 0, 100, False), (CCS, 140, 1, True), (DATA, 146, 53, False)]
    # The same hole with a segment after it that begins inside a record: nothing to resume at.
    heads = build_heads({0: octets}, holes={0: [(107, 142)]})
    result = walk(heads)
    assert rows(result, heads) == [(HANDSHAKE, 0, 100, False)]
    assert result.end[0] == WalkEnd.GAP


def test_a_head_that_begins_in_the_middle_is_entered_at_a_segment() -> None:
    octets = b"\xaa" * 33 + sealed(40, 41)
    heads = build_heads({0: octets}, segments={0: [(0, 1), (33, 2)]}, mid_connection={0})
    assert rows(walk(heads), heads) == [(DATA, 33, 40, True), (DATA, 78, 41, False)]
    # A clear exchange before TLS, as with a proxy: the same.
    heads = build_heads({0: octets}, segments={0: [(0, 1), (33, 2)]})
    assert rows(walk(heads), heads) == [(DATA, 33, 40, True), (DATA, 78, 41, False)]
    # One plausible header is not enough where what follows it is known and is none.
    heads = build_heads({0: sealed(40) + b"\xaa" * 9}, mid_connection={0})
    assert rows(walk(heads), heads) == []


def test_every_truncation_keeps_the_records_before_it() -> None:
    octets = record(HANDSHAKE, bytes(30)) + CHANGE + sealed(20, 0, 7)
    whole = plain_walk(octets)
    for size in range(len(octets) + 1):
        heads = build_heads({0: octets[:size], 1: b""})
        result = walk(heads)
        assert rows(result, heads) == [row for row in whole if row[1] + 5 <= size]
        assert (result.records.known <= size).all()


def test_endless_records_end_the_walk() -> None:
    heads = build_heads({0: record(HANDSHAKE, b"") * 3000, 1: sealed(*[0] * 3000)})
    result = walk(heads)
    assert result.end[0] == WalkEnd.LIMIT
    assert result.begin[1] == MAX_RECORDS
    assert result.end[1] == WalkEnd.ENOUGH


def test_an_ssl2_hello_is_a_record() -> None:
    body = b"\1\3\1" + b"\0\3\0\0\0\x10" + b"\0\0\5" + bytes(16)
    octets = bytes([0x80, len(body)]) + body + CHANGE
    heads = build_heads({0: octets})
    assert rows(walk(heads), heads) == [(128, 0, len(body), False), (CCS, 2 + len(body), 1, False)]
