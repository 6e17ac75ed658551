"""Header blocks remembered are header blocks decoded: whatever came before, and on however many connections."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols import header_blocks
from analyzer.protocols.header_blocks import MAX_HEADER_LIST, MAX_TABLE, BlockReader

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


@given(conversations, st.sampled_from([0, 300, 1 << 20]), st.integers(0, 3))
def test_any_connections_in_any_state_of_the_memory_say_what_hpack_says(
    conversations: list[list[list[tuple[bytes, bytes]]]], memory: int, resized: int
) -> None:
    directions = []
    for conversation in conversations:
        encoder = Encoder()
        if resized:
            encoder.header_table_size = 64 * resized
        directions.append([encoder.encode(fields, huffman=bool(len(fields) % 2)) for fields in conversation])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(header_blocks, "_REMEMBERED", memory)
        for blocks in [*directions, *directions]:
            assert read(blocks) == plainly(blocks)


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_octets_that_are_no_blocks_say_as_little_the_second_time(blocks: list[bytes]) -> None:
    assert read(blocks) == read(blocks) == plainly(blocks)


def test_a_copy_goes_its_own_way() -> None:
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
