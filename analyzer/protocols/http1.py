"""HTTP/1 (RFC 9112) in stream heads: start lines and header fields, bodies skipped.

The reader is as lenient as RFC 9112 2.2 and 3 allow, because it judges nobody: LF alone ends a line, empty lines before
a message are passed over, obsolete line folding is undone, words may be set apart by any white space. A head that does
not begin with a message (a connection joined in the middle, a body whose length is nonsense, what lies behind a gap) is
taken up again at the first segment that does. Where a head is cut, the complete lines before the cut are still facts;
nothing is guessed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from analyzer.protocols.http_message import MAX_FIELDS, SHOWN, Fields, make_request, make_response, values_by_name
from analyzer.protocols.stream import Stream, read_streams
from analyzer.schema import I64, HttpMessage, LateMessage, StreamHeads

MAX_LINE: Final = 8192
"""Octets of one line; RFC 9112 3 asks for at least 8000, Apache and nginx stop at 8190 and 8192."""
MAX_VALUE: Final = 8192
"""Octets kept of one field value after unfolding."""
_REMEMBERED_LINE: Final = 256
"""Octets of a start line up to which it is worth remembering."""
_REMEMBERED: Final = 4096
"""Octets of a field section up to which it is worth remembering."""
_SENT_ALONG: Final = 8
"""Messages read of the segments kept for one late message: pipelined ones."""
MAX_LENGTH_DIGITS: Final = 18
"""Digits of a Content-Length or chunk size: what fits 64 bits."""

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")  # RFC 9110 9.1 and 5.6.2: a token
_VERSION: Final = re.compile(rb"HTTP/(1\.[0-9])")
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
_ABSOLUTE_FORM: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]{0,15}://(?:[^/?#@]{0,512}@)?([^/?#@]{1,512})")
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")


_Fields = tuple[tuple[bytes, bytes], ...]
_Framing = tuple[bytes, frozenset[bytes]]


@dataclass(slots=True)
class _Head:
    """A start line and what is kept of the complete field lines after it.

    ``body`` is None where the head is cut; ``framing`` is what Transfer-Encoding and Content-Length say.
    """

    position: int
    frame: int
    version: str
    fields: _Fields
    body: int | None
    framing: _Framing
    method: bytes = b""
    target: bytes = b""
    status: int = 0


def read_http1(
    heads: StreamHeads, flows: I64, names: I64 | None = None, *, limit_messages: int = 64
) -> list[HttpMessage]:
    """Read the HTTP/1 messages at the head of each flow, before and behind its gaps.

    Parameters
    ----------
    heads : StreamHeads
    flows : (K,) int64
        Flows whose content is HTTP/1, by their place in `heads`.
    names : (K,) int64, optional
        Rows of the flow table, where they are not the same: what `HttpMessage.flow` is to hold.
    limit_messages : int
        Messages read of each direction of a flow.

    Returns
    -------
    list of HttpMessage
        In the order of `flows`; those of one flow by frame, a request before a response of the same frame. After a
        switch of protocols (101, or 2xx to CONNECT) a flow has no more messages. A message whose head is cut shows
        the fields of its complete lines: an empty attribute then means "not seen".

    Notes
    -----
    Syntax: RFC 9112 2 to 6. Message body length: RFC 9112 6.3. Malformed input ends a direction; it never raises.
    """
    messages: list[HttpMessage] = []
    for flow, client, server in read_streams(heads, flows, names):
        found = [_message(flow, head, head.frame) for head in _read_flow(client, server, limit_messages)]
        messages += before_switch(found) if client.later or server.later else found
    return messages


def read_late(late: Iterable[LateMessage]) -> list[HttpMessage]:
    """Read messages that were kept from behind the heads; each also holds what was sent along with it.

    Returns
    -------
    list of HttpMessage
        In the order given, ``flow`` is that of the stream.
    """
    messages: list[HttpMessage] = []
    for one in late:
        messages += [_message(one.stream >> 1, head, one.frame) for head in _late_heads(one.octets)]
    return messages


@lru_cache(maxsize=256)
def _late_heads(octets: bytes) -> tuple[_Head, ...]:
    """Messages in octets of one segment; what is asked or answered again and again is read once."""
    return tuple(_run(Stream(octets, False, [0], [0]), requests=not octets.startswith(b"HTTP/"), limit=_SENT_ALONG))


def before_switch(messages: Sequence[HttpMessage]) -> list[HttpMessage]:
    """The messages of one connection, in order, up to the one with which it stops to be HTTP/1.

    What follows a switch of protocols (RFC 9110 7.8) or an answered CONNECT (9.3.6) belongs to the other protocol.
    """
    asked = False
    for place, message in enumerate(messages):
        asked |= message.method == "CONNECT"
        if message.status == 101 or (asked and 200 <= message.status < 300):
            return [*messages[: place + 1]]
        asked &= message.status == 0 or message.status < 200
    return [*messages]


def _message(flow: int, head: _Head, frame: int) -> HttpMessage:
    if head.status:
        return make_response(flow, frame, version=head.version, status=head.status, fields=head.fields)
    return make_request(flow, frame, version=head.version, method=head.method, target=head.target, fields=head.fields)


def _run(stream: Stream, *, requests: bool, limit: int) -> list[_Head]:
    """Messages of one direction taken up in its middle, at a segment that begins with one."""
    direction = _Direction(stream, requests=requests)
    direction.resume(0)
    heads: list[_Head] = []
    while len(heads) < limit and (head := direction.next_head()) is not None:
        heads.append(head)
        direction.skip_body(head, b"")
    return heads


def _read_flow(client: Stream, server: Stream, limit: int) -> list[_Head]:
    """Messages of one connection by frame, with those behind gaps where it still was HTTP/1 by then."""
    exchange = _read_runs(client, server, limit)
    requests, responses = exchange.requests, exchange.responses
    if not exchange.over:
        for run in client.later:
            requests += _run(run, requests=True, limit=limit - len(requests))
        for run in server.later:
            responses += _run(run, requests=False, limit=limit - len(responses))
    return sorted(requests + responses, key=lambda head: head.frame)


class Switch(NamedTuple):
    """Where a connection stops to be HTTP/1: the positions behind the request and behind the answer."""

    request: HttpMessage
    status: int
    client: int
    server: int


def read_switch(flow: int, client: Stream, server: Stream, *, limit_messages: int = 64) -> Switch | None:
    """Find the request that turns the connection into another protocol, and its answer (RFC 9110 7.8, 9.3.6)."""
    switch = _read_runs(client, server, limit_messages).switch
    if switch is None or switch[0].body is None or switch[1].body is None:
        return None
    request, response = switch
    return Switch(_message(flow, request, request.frame), response.status, request.body or 0, response.body or 0)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Messages up to the first gap; ``over``: the connection then stopped to be HTTP/1, by ``switch`` if it is seen."""

    requests: list[_Head]
    responses: list[_Head]
    over: bool
    switch: tuple[_Head, _Head] | None = None


def _read_runs(client: Stream, server: Stream, limit: int) -> _Exchange:
    """Requests and responses up to the first gap, each response matched to its request (RFC 9112 9.2)."""
    asking = _Direction(client, requests=True)
    requests: list[_Head] = []
    while len(requests) < limit and (request := asking.next_head()) is not None:
        requests.append(request)
        asking.skip_body(request, b"")
    answering = _Direction(server, requests=False)
    responses: list[_Head] = []
    waiting = deque(enumerate(requests))
    while len(responses) < limit and (response := answering.next_head()) is not None:
        responses.append(response)
        # By order where both directions were read from their first octet, by frame where one was joined later.
        answers = bool(waiting) and ((asking.in_order and answering.in_order) or waiting[0][1].frame <= response.frame)
        row, method = (waiting[0][0], waiting[0][1].method) if answers else (-1, b"")
        if response.status >= 200 or response.status == 101:
            if answers:
                waiting.popleft()
            if response.status == 101 or (method == b"CONNECT" and response.status < 300):
                kept = requests[: row + 1] if answers else [r for r in requests if r.frame <= response.frame]
                return _Exchange(kept, responses, True, (kept[-1], response) if answers else None)
        answering.skip_body(response, method)
    # What follows a CONNECT nobody was seen to refuse belongs to the tunnel.
    unanswered = next((row for row, request in waiting if request.method == b"CONNECT"), len(requests))
    return _Exchange(requests[: unanswered + 1], responses, unanswered < len(requests))


class _Direction:
    """A place in one direction of a connection, and the way to the next message."""

    def __init__(self, stream: Stream, *, requests: bool) -> None:
        self.stream = stream
        self.in_order = stream.from_start
        self._requests = requests
        self._at: int | None = 0

    def next_head(self) -> _Head | None:
        """Read the next start line and its fields; None where none is left."""
        octets = self.stream.octets
        while self._at is not None:
            at = self._at
            while octets[at : at + 1] in (b"\r", b"\n"):  # RFC 9112 2.2: empty lines before a message
                at += 1
            head = self._head_at(at)
            if head is not None:
                return head
            self.resume(at + 1)
        return None

    def skip_body(self, head: _Head, method: bytes) -> None:
        """Move past the body of `head`; `method` is that of the request a response answers, empty if unknown."""
        following = _body_end(self.stream.octets, head, method) if head.body is not None else None
        self._at = following
        if following is not None and following < 0:
            self.resume(head.body or 0)

    def resume(self, at: int) -> None:
        """Go to the first segment at or past `at` that begins with a start line."""
        self.in_order = False
        starts = self.stream.segment_starts()
        for position in starts[bisect_left(starts, at) :]:
            if self._start_line(position) is not None:
                self._at = position
                return
        self._at = None

    def _start_line(self, at: int) -> tuple[list[bytes], str, int] | None:
        """Words of the start line at `at`, its version, and where it ends; None where there is none."""
        octets = self.stream.octets
        stop = octets.find(b"\n", at, at + MAX_LINE)
        if stop < 0 or octets[at : at + 1].isspace():
            return None
        line = octets[at:stop]
        read = _remembered_words if len(line) <= _REMEMBERED_LINE else _words
        start = read(line, self._requests)
        if start is None or (self._requests and len(start[0]) > 3 and not self.in_order):
            return None  # a target with spaces is believed only where a message is due
        return (*start, stop + 1)

    def _head_at(self, at: int) -> _Head | None:
        start = self._start_line(at)
        if start is None:
            return None
        words, version, stop = start
        fields, body, framing = _fields_at(self.stream.octets, stop)
        frame = self.stream.frame_at(at)
        if not self._requests:
            return _Head(at, frame, version, fields, body, framing, status=int(words[1]))
        target = b" ".join(words[1:-1])
        authority = _ABSOLUTE_FORM.match(target)
        if authority is not None:
            fields = (b"host", authority[1]), *fields  # RFC 9112 3.2.2: it takes the place of Host
        return _Head(at, frame, version, fields, body, framing, method=words[0], target=target)


def _words(line: bytes, requests: bool) -> tuple[list[bytes], str] | None:
    """Words of a start line, and its version; None where it is none."""
    words = line.split()
    if len(words) < (3 if requests else 2):
        return None
    version = _VERSION.fullmatch(words[-1] if requests else words[0])
    known = _METHOD.fullmatch(words[0]) if requests else _STATUS.fullmatch(words[1])
    return (words, version[1].decode()) if version and known else None


_remembered_words = lru_cache(maxsize=512)(_words)
"""`_words`, once for each of the lines that are sent again and again; nobody changes what it returns."""


def _fields_at(octets: bytes, at: int) -> tuple[_Fields, int | None, _Framing]:
    """`_read_fields` and `_framing`, once for each distinct section: pollers send the same one again and again."""
    stop = octets.find(b"\r\n\r\n", at, at + _REMEMBERED)
    if stop < 0:
        read, body = _read_fields(octets, at)
        return _kept(read), body, _framing(read)
    fields, body, framing = _remembered_fields(octets[at : stop + 4])
    return fields, None if body is None else at + body, framing


@lru_cache(maxsize=256)
def _remembered_fields(section: bytes) -> tuple[_Fields, int | None, _Framing]:
    fields, body = _read_fields(section, 0)
    return _kept(fields), body, _framing(fields)


def _kept(fields: Fields) -> _Fields:
    """Those of which anything is kept. The others (a date, say) change, and would have every message read anew."""
    return tuple(field for field in fields if field[0] in SHOWN)


def _framing(fields: Fields) -> _Framing:
    """Transfer-Encoding, in lower case, and the distinct values of Content-Length."""
    lengths = {value.strip() for name, all_ in fields if name == b"content-length" for value in all_.split(b",")}
    return values_by_name(fields).get(b"transfer-encoding", b"").lower(), frozenset(lengths)


def _read_fields(octets: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int | None]:
    """Complete field lines from `at`, and where the body begins: None where the section is cut or not HTTP."""
    fields: list[tuple[bytes, bytes]] = []
    while True:
        stop = octets.find(b"\n", at, at + MAX_LINE)
        if stop < 0:
            return fields, None
        line = octets[at:stop].removesuffix(b"\r")
        at = stop + 1
        if not line:
            return fields, at
        if line[:1] in (b" ", b"\t"):
            # RFC 9112 5.2: an obsolete fold is a space. Before the first field it is to be ignored (2.2).
            if fields and len(fields[-1][1]) < MAX_VALUE:
                name, value = fields[-1]
                fields[-1] = name, (value + b" " + line.strip(b" \t"))[:MAX_VALUE]
            continue
        name, colon, value = line.partition(b":")
        if colon and len(fields) < MAX_FIELDS:
            fields.append((name.strip(b" \t").lower(), value.strip(b" \t")))


def _body_end(octets: bytes, head: _Head, method: bytes) -> int | None:
    """Where the message after `head` begins (RFC 9112 6.3), may lie past the octets.

    None: nothing follows, the body lasts until the connection closes or is cut. -1: its length is nonsense.
    """
    at = head.body or 0
    if head.status and (method == b"HEAD" or head.status < 200 or head.status in (204, 304)):
        return at
    coding, lengths = head.framing
    if coding:
        if coding.rpartition(b",")[2].strip() == b"chunked":
            return _chunked_end(octets, at)
        return None if head.status else -1
    if not lengths:
        return None if head.status else at
    if len(lengths) > 1:
        return -1
    (length,) = lengths
    return at + int(length) if length.isdigit() and len(length) <= MAX_LENGTH_DIGITS else -1


def _chunked_end(octets: bytes, at: int) -> int | None:
    """Where a chunked body ends (RFC 9112 7.1); None where it is cut, -1 where a chunk size is none."""
    while True:
        stop = octets.find(b"\n", at, at + MAX_LINE)
        if stop < 0:
            return None if len(octets) - at < MAX_LINE else -1
        size = _CHUNK_SIZE.fullmatch(octets[at:stop].removesuffix(b"\r"))
        if size is None:
            return -1
        at = stop + 1 + int(size[1], 16)
        if int(size[1], 16) == 0:
            return _read_fields(octets, stop + 1)[1]  # the trailer section
        if at >= len(octets):
            return None
        at += 2 if octets[at : at + 2] == b"\r\n" else 1 if octets[at : at + 1] == b"\n" else 0
