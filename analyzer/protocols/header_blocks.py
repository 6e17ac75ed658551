"""Header blocks of HTTP/2 (RFC 7541), decoded by `hpack`, and each only once in the same state of the dynamic table.

Connections of one program begin alike: the same blocks in the same order, over the same tables. What a block said, and
what it made of the table, is therefore remembered by the table and the octets of the block, for all connections
together and within a bound; where that is not known, the table that stands is given to a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

from analyzer.protocols.http_message import MAX_FIELDS, SHOWN, Fields, request_head, response_head
from analyzer.schema import HttpHead, HttpMessage

if TYPE_CHECKING:
    from hpack import Decoder
    from hpack.table import HeaderTable

MAX_TABLE: Final = 64 * 1024
"""Octets a dynamic table may grow to, by RFC 7541 4.1's count; net/http keeps 4 KiB, browsers 64 KiB."""
MAX_HEADER_LIST: Final = 64 * 1024
"""Octets of one decoded header list, by the same count; net/http accepts 1 MiB, nghttp2 64 KiB."""
UNKNOWN: Final = b""  # no field name (RFC 9110 5.1): stands for entries added before the capture
_REMEMBERED: Final = 16 << 20
"""Octets of all that is remembered, roughly; past it everything is forgotten."""
_EACH: Final = 200
"""Octets that a remembered block takes besides its text, and a field of it."""
_MISSES: Final = 32
"""By how many blocks not remembered are to exceed those that were until a direction is read by itself."""
_OWN: Final = 64
"""Blocks that such a direction remembers."""
_OWN_OCTETS: Final = 1024
"""Octets of the longest of those; and of the longest text that one of them says."""
_OWN_FIELDS: Final = 16
"""Fields of the longest of those."""


@dataclass(slots=True, eq=False)
class HeaderBlock:
    """A decoded block: its fields, lower-case names, and how many more refer to what was added before the capture."""

    fields: Fields
    undecoded: int
    is_request: bool = field(init=False)  #: it has a method
    _heads: dict[bool, tuple[HttpHead, str] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.is_request = any(name == b":method" for name, _ in self.fields)

    def __deepcopy__(self, _memo: object) -> HeaderBlock:
        return self  # what was said does not change

    def message(self, flow: int, frame: int, *, from_client: bool) -> HttpMessage | None:
        """Message of this block; None for trailers."""
        found = self._head_of(from_client)
        return HttpMessage(flow, frame, found[0]) if found else None

    def identity(self, *, from_client: bool) -> str:
        """What tells messages of one direction apart: of answers the status alone. Empty for trailers."""
        found = self._head_of(from_client)
        return found[1] if found else ""

    def _head_of(self, from_client: bool) -> tuple[HttpHead, str] | None:
        try:
            return self._heads[from_client]
        except KeyError:
            head, found = self._read(from_client), None
            if head is not None:
                identity = repr(head) if from_client else str(head.status)
                found = (head._replace(undecoded=self.undecoded) if self.undecoded else head), identity
            self._heads[from_client] = found
            return found

    def _read(self, from_client: bool) -> HttpHead | None:
        pseudo = {name: value for name, value in reversed(self.fields) if name.startswith(b":")}
        plain = [(name, value) for name, value in self.fields if not name.startswith(b":")][:MAX_FIELDS]
        for name, given in ((b":authority", b"host"), (b":protocol", b"upgrade")):
            if name in pseudo:
                plain.insert(0, (given, pseudo[name]))
        # The others (a deadline of gRPC, say) change with every request, and would have each of them read anew.
        plain = [(name, value) for name, value in plain if name in SHOWN]
        if from_client and b":method" in pseudo:
            return request_head("2", pseudo[b":method"], pseudo.get(b":path", b""), tuple(plain))
        status = pseudo.get(b":status", b"")
        if not from_client and len(status) == 3 and status.isdigit():
            return response_head("2", int(status), tuple(plain))
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """A state of the dynamic table; told apart by identity."""

    joined: bool
    entries: tuple[tuple[bytes, bytes], ...] = ()  #: newest first
    limit: int = 4096  #: as RFC 9113 6.5.2 has it in the beginning

    def decoder(self) -> Decoder:
        """A decoder that stands there."""
        from hpack import Decoder

        decoder = Decoder(max_header_list_size=MAX_HEADER_LIST)
        decoder.max_allowed_table_size = MAX_TABLE
        table = _joined_table()() if self.joined else decoder.header_table
        table.maxsize = self.limit
        for name, value in reversed(self.entries):
            table.add(name, value)
        decoder.header_table = table
        return decoder


@cache
def _joined_table() -> type[HeaderTable]:
    from hpack.table import HeaderTable

    class JoinedTable(HeaderTable):
        """The table of a connection joined in its middle: behind the entries added since stand those not known.

        The table numbers its newest entry first, so what was added since has its right number, and every older number
        meets `UNKNOWN`: an entry counts 32 octets besides its text (RFC 7541 4.1), so no real table holds more.
        """

        def get_by_index(self, index: int) -> tuple[bytes, bytes]:
            older = self.STATIC_TABLE_LENGTH + len(self.dynamic_entries) < index
            if older and index <= self.STATIC_TABLE_LENGTH + self.maxsize // 32:
                return UNKNOWN, b""
            return super().get_by_index(index)

    return JoinedTable


_EMPTY: Final = _Table(joined=False)
_JOINED: Final = _Table(joined=True, limit=MAX_TABLE)


class _Memory:
    """What blocks said, and to which table they led, by the table before and the octets."""

    def __init__(self) -> None:
        self.known: dict[tuple[_Table, bytes], tuple[HeaderBlock, _Table]] = {}
        self._octets = 0

    def keep(self, before: _Table, octets: bytes, block: HeaderBlock, after: _Table) -> None:
        """Remember one more, and forget all the others where there are too many."""
        text = sum(len(name) + len(value) + _EACH for name, value in block.fields)
        self._octets += _EACH + len(octets) + 2 * text + (8 * len(after.entries) if after is not before else 0)
        if self._octets > _REMEMBERED:
            self.known.clear()
            self._octets = 0
        self.known[before, octets] = block, after


_MEMORY: Final = _Memory()


class BlockReader:
    """Decode the blocks of one direction, in order.

    Parameters
    ----------
    joined : bool
        The connection was joined in its middle: its table holds what is not known.

    Notes
    -----
    A direction that says something new again and again has no use for what is remembered, and would crowd it out: it
    goes on with a decoder of its own, and remembers what its blocks said for as long as its table stays the same.
    """

    __slots__ = ("_decoder", "_missed", "_own", "_table")

    def __init__(self, *, joined: bool) -> None:
        self._table = _JOINED if joined else _EMPTY
        self._decoder: Decoder | None = None  # one that stands where `_table` does; or past it, where `_own` is used
        self._missed = 0  # blocks that were not remembered, less those that were
        self._own: dict[bytes, HeaderBlock] | None = None

    def __deepcopy__(self, _memo: object) -> BlockReader:
        apart = BlockReader(joined=self._table.joined)
        apart._table = self._standing()  # tables do not change; a decoder does
        return apart

    def decode(self, octets: bytes) -> HeaderBlock | None:
        """What a block says; None where it cannot be decoded, and then no later one can."""
        if self._own is not None:
            return self._decode_alone(octets, self._own)
        known = _MEMORY.known.get((self._table, octets))
        if known is not None:
            block, after = known
            if after is not self._table:
                self._table, self._decoder = after, None
            if self._missed:
                self._missed -= 1
            return block
        self._decoder = self._decoder or self._table.decoder()
        self._missed += 1
        if self._missed > _MISSES:
            self._own = {}
            return self._decode_alone(octets, self._own)
        said = _decoded(self._decoder, octets)
        if said is not None:
            before = self._table
            self._table = self._standing()
            _MEMORY.keep(before, octets, said, self._table)
        return said

    def _decode_alone(self, octets: bytes, own: dict[bytes, HeaderBlock]) -> HeaderBlock | None:
        said = own.get(octets) if len(octets) <= _OWN_OCTETS else None
        if said is not None:
            return said
        assert self._decoder is not None
        before = _state(self._decoder)
        said = _decoded(self._decoder, octets)
        after = _state(self._decoder)
        if before[0] is not after[0] or before[1:] != after[1:] or len(own) >= _OWN:
            own.clear()
        elif said is not None and len(octets) <= _OWN_OCTETS and _is_short(said):
            own[octets] = said
        return said

    def _standing(self) -> _Table:
        """The table as it is now."""
        if self._decoder is None:
            return self._table
        table = self._decoder.header_table
        entries = tuple(table.dynamic_entries)
        if entries == self._table.entries and table.maxsize == self._table.limit:
            return self._table
        return _Table(self._table.joined, entries, table.maxsize)


def _decoded(decoder: Decoder, octets: bytes) -> HeaderBlock | None:
    from hpack.exceptions import HPACKError

    try:
        decoded = decoder.decode(octets, raw=True)
    except HPACKError:
        return None
    fields = [(bytes(name).lower(), bytes(value)) for name, value in decoded]
    seen = [(name, value) for name, value in fields if name != UNKNOWN]
    return HeaderBlock(seen, len(fields) - len(seen))


def _is_short(block: HeaderBlock) -> bool:
    """Whether a direction may remember it: a few octets can stand for a table full of text."""
    text = sum(len(name) + len(value) for name, value in block.fields)
    return len(block.fields) <= _OWN_FIELDS and text <= _OWN_OCTETS


def _state(decoder: Decoder) -> tuple[object, int, int]:
    """What changes with the table: its newest entry (the very object), how many there are, and their bound."""
    table = decoder.header_table
    entries = table.dynamic_entries
    return entries[0] if entries else None, len(entries), table.maxsize
