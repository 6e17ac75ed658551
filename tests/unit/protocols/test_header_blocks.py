"""Header blocks remembered are header blocks decoded: whatever came before, and on however many connections."""

from __future__ import annotations

import tracemalloc
from copy import deepcopy

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols import header_blocks
from analyzer.protocols.header_blocks import MAX_HEADER_LIST, MAX_TABLE, BlockReader, HeaderBlock
from analyzer.protocols.http_message import SHOWN, make_request, make_response

STATIC = frozenset(HeaderTable.STATIC_TABLE)
names = st.sampled_from([b":method", b":path", b"x-token", b"user-agent", b"grpc-timeout"])
field_lists = st.lists(st.tuples(names, st.binary(max_size=40)), min_size=1, max_size=5)
conversations = st.lists(st.lists(field_lists, min_size=1, max_size=6), min_size=1, max_size=4)


def plainly(blocks: list[bytes]) -> list[list[tuple[bytes, bytes]] | None]:
    """What hpack alone makes of the blocks of one direction."""
    decoder = Decoder(max_header_list_size=MAX_HEADER_LIST)
    decoder.max_allowed_table_size = MAX_TABLE
    found: list[list[tuple[bytes, bytes]] | None] = []
    for block in blocks:
        try:
            decoded = decoder.decode(block, raw=True)
        except HPACKError:
            return [*found, None]
        found.append([(bytes(name).lower(), bytes(value)) for name, value in decoded])
    return found


def read(blocks: list[bytes], reader: BlockReader | None = None) -> list[list[tuple[bytes, bytes]] | None]:
    reader = reader or BlockReader(joined=False)
    found: list[list[tuple[bytes, bytes]] | None] = []
    for block in blocks:
        said = reader.decode(block)
        found.append(None if said is None else list(said.fields))
        if said is None:
            break
    return found


@given(conversations, st.sampled_from([0, 300, 1 << 20]), st.integers(0, 3), st.sampled_from([0, 1, 4, 32]))
def test_any_connections_in_any_state_of_the_memory_say_what_hpack_says(
    conversations: list[list[list[tuple[bytes, bytes]]]], memory: int, resized: int, misses: int
) -> None:
    directions = []
    for conversation in conversations:
        encoder = Encoder()
        if resized:
            encoder.header_table_size = 64 * resized
        said = [fields for fields in conversation for _ in range(1 + len(fields) % 3)]
        directions.append([encoder.encode(fields, huffman=bool(len(fields) % 2)) for fields in said])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(header_blocks, "_MISSES", misses)
        patch.setattr(header_blocks, "_REMEMBERED", memory)
        for blocks in [*directions, *directions]:
            assert read(blocks) == plainly(blocks)


@given(conversations, st.sampled_from([0, 300, 1 << 20]), st.integers(0, 5), st.sampled_from([0, 1, 4, 32]))
def test_a_connection_joined_in_its_middle_says_what_hpack_says_or_that_it_is_not_known(
    conversations: list[list[list[tuple[bytes, bytes]]]], memory: int, missed: int, misses: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(header_blocks, "_MISSES", misses)
        patch.setattr(header_blocks, "_REMEMBERED", memory)
        for conversation in [*conversations, *conversations]:
            encoder = Encoder()
            blocks = [encoder.encode(fields, huffman=bool(len(fields) % 2)) for fields in conversation]
            whole, seen = plainly(blocks)[missed:], blocks[missed:]
            joined, known = BlockReader(joined=True), set(STATIC)
            for block, said in zip(seen, whole, strict=True):
                found = joined.decode(block)
                assert found is not None
                assert said is not None
                rest = iter(said)
                assert all(field in rest for field in found.fields), "in their order, and none that was not said"
                assert len(found.fields) + found.undecoded == len(said)
                # What was said since is known, and what every table holds; only what came before may be missing.
                assert [one for one in said if one in known] == [one for one in found.fields if one in known]
                known |= {one for one in found.fields if one[0] in (b"x-token", b"grpc-timeout", b"user-agent")}
                if not missed:
                    assert not found.undecoded


def test_the_same_octets_are_told_apart_by_how_their_connection_was_met() -> None:
    encoder = Encoder()
    first, second = (encoder.encode([(b"x-token", b"one")]) for _ in range(2))
    for _ in range(2):
        met, joined = BlockReader(joined=False), BlockReader(joined=True)
        assert read([first, second], met) == [[(b"x-token", b"one")]] * 2
        said = joined.decode(second)
        assert said is not None
        assert (list(said.fields), said.undecoded) == ([], 1)
        assert read([second]) == [None]


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_octets_that_are_no_blocks_say_as_little_the_second_time(blocks: list[bytes]) -> None:
    assert read(blocks) == read(blocks) == plainly(blocks)


@pytest.mark.parametrize("misses", [0, 1, 32])
def test_a_copy_goes_its_own_way(misses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_blocks, "_MISSES", misses)
    encoder, other = Encoder(), Encoder()
    first = encoder.encode([(b"x-token", b"one")])
    other.encode([(b"x-token", b"one")])
    reader = BlockReader(joined=False)
    read([first], reader)

    apart = deepcopy(reader)
    assert read([encoder.encode([(b"x-token", b"two")])], reader) == [[(b"x-token", b"two")]]

    again = other.encode([(b"x-token", b"three"), (b"x-token", b"one")])
    assert read([again], apart) == [[(b"x-token", b"three"), (b"x-token", b"one")]]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_blocks, "_REMEMBERED", 10_000)
    for number in range(500):
        read([Encoder().encode([(b"x-token", str(number).encode())])])

    assert len(header_blocks._MEMORY.known) < 50


def test_directions_that_always_say_something_new_do_not_crowd_out_what_others_say() -> None:
    before = len(header_blocks._MEMORY.known)
    encoder = Encoder()
    blocks = [encoder.encode([(b"grpc-timeout", str(number).encode())]) for number in range(1000)]

    assert read(blocks) == plainly(blocks)
    assert len(header_blocks._MEMORY.known) - before < 50


@pytest.mark.parametrize("size", [2_000, 60_000])
def test_a_direction_remembers_no_long_blocks(size: int) -> None:
    reader = BlockReader(joined=False)
    # Literals that are not added to the table (RFC 7541 6.2.2).
    text = [str(number).encode().rjust(size, b"y") for number in range(80)]
    encoder = Encoder()
    encoder.header_table_size = 0
    blocks = [encoder.encode([(b"x", one)], huffman=False) for one in text]
    assert read(blocks[:40], reader) == [[(b"x", one)] for one in text[:40]]
    tracemalloc.start()
    try:
        assert read(blocks[40:], reader) == [[(b"x", one)] for one in text[40:]]
        del blocks, text
        assert tracemalloc.get_traced_memory()[0] < 8 * size
    finally:
        tracemalloc.stop()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*sorted(SHOWN), b"grpc-timeout", b"x-request-id"]), st.text("ab ,:=").map(str.encode)
        )
    ),
    st.booleans(),
)
def test_fields_that_nothing_is_kept_of_change_no_message(fields: list[tuple[bytes, bytes]], request_: bool) -> None:
    if request_:
        block = HeaderBlock([(b":method", b"POST"), (b":path", b"/a"), *fields], 0)
        shown = make_request(3, 4, version="2", method=b"POST", target=b"/a", fields=fields)
    else:
        block = HeaderBlock([(b":status", b"404"), *fields], 0)
        shown = make_response(3, 4, version="2", status=404, fields=fields)

    assert block.message(3, 4, from_client=request_) == shown
