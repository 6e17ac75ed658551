"""HTTP/1 (RFC 9112) messages in stream heads: start lines and header fields, bodies skipped."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from analyzer.protocols.cleartext.fields import make_message
from analyzer.schema import I64, HttpMessage, StreamHeads

MAX_MESSAGES: Final = 64
"""Messages read per direction of a connection."""
MAX_FIELDS: Final = 128
"""Header fields read per message; node.js stops at 2000, Apache at 100."""

_REQUEST: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) (\S{1,8192}) HTTP/(1\.[01])\r?\n")
_STATUS: Final = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?\r?\n")
_START: Final = re.compile(
    rb"(?:(?:GET|POST|PUT|HEAD|DELETE|PATCH|OPTIONS|CONNECT|TRACE) \S{1,8192} HTTP/1\.[01]"
    rb"|HTTP/1\.[01] [1-5][0-9][0-9])"
)
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?\r?\n")


_Entry = tuple[int, str, str, int, str, list[tuple[str, str]]]
"""Position, method, target, status, version, header fields."""


def _fields(octets: bytes, at: int) -> tuple[list[tuple[str, str]], int] | None:
    """Header fields from `at` and where the body begins; None where the head is not complete.

    Obsolete line folding continues the value before it (RFC 9112 5.2).
    """
    fields: list[tuple[str, str]] = []
    while True:
        end = octets.find(b"\n", at)
        if end < 0:
            return None
        line = octets[at:end].rstrip(b"\r")
        at = end + 1
        if not line:
            return fields, at
        if line[:1] in b" \t" and fields:
            name, value = fields[-1]
            fields[-1] = (name, f"{value} {line.strip().decode('latin-1')}")
        elif len(fields) < MAX_FIELDS:
            name_octets, _, value_octets = line.partition(b":")
            fields.append((name_octets.strip().lower().decode("latin-1"), value_octets.strip().decode("latin-1")))


def _body_end(octets: bytes, at: int, headers: dict[str, str], *, status: int, method: str) -> int | None:
    """Where the message after this one begins; None where that is not known (RFC 9112 6.3)."""
    bodiless = 100 <= status < 200 or status in (204, 304) or (not status and method in ("GET", "HEAD", "DELETE"))
    if bodiless and "content-length" not in headers and "transfer-encoding" not in headers:
        return at
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while (chunk := _CHUNK.match(octets, at)) is not None:
            size = int(chunk[1], 16)
            at = chunk.end() + size
            if size == 0:
                end = octets.find(b"\n", at)
                return end + 1 if end >= 0 else None
            at += 2 if octets[at : at + 2] == b"\r\n" else 1
        return None
    length = headers.get("content-length", "")
    if length.isdecimal() and len(length) < 16:
        return at + int(length)
    return None if status else at


def _resume(octets: bytes, starts: list[int], at: int) -> int | None:
    """The next segment start at or past `at` that begins a message: where reading goes on after a lost body."""
    return next((s for s in starts if s >= at and _START.match(octets, s)), None)


def _read_stream(octets: bytes, starts: list[int], *, from_client: bool) -> list[_Entry]:
    """(position, method, target, status, version, fields) of each message of one direction."""
    found: list[_Entry] = []
    at: int | None = 0
    while at is not None and at < len(octets) and len(found) < MAX_MESSAGES:
        # Empty lines before a start line are ignored (RFC 9112 2.2).
        while octets[at : at + 1] in (b"\r", b"\n"):
            at += 1
        match = (_REQUEST if from_client else _STATUS).match(octets, at)
        head = _fields(octets, match.end()) if match is not None else None
        if match is None or head is None:
            if match is not None:
                # The start line is readable although its header fields are cut.
                found.append(_entry(at, match, [], from_client=from_client))
            at = _resume(octets, starts, at + 1)
            continue
        fields, body = head
        found.append(_entry(at, match, fields, from_client=from_client))
        _, method, _, status, _, _ = found[-1]
        named = dict(reversed(fields))
        if status == 101 or (from_client and method == "CONNECT"):
            break
        following = _body_end(octets, body, named, status=status, method=method)
        at = following if following is not None else _resume(octets, starts, body)
    return found


def _entry(at: int, match: re.Match[bytes], fields: list[tuple[str, str]], *, from_client: bool) -> _Entry:
    if from_client:
        return at, match[1].decode("latin-1"), match[2].decode("latin-1"), 0, match[3].decode(), fields
    return at, "", "", int(match[2]), match[1].decode(), fields


def read_http1(heads: StreamHeads, flows: I64, names: I64) -> list[HttpMessage]:
    """Read the HTTP/1 messages of the given flows, requests and responses, each up to the head's first gap.

    Parameters
    ----------
    heads : StreamHeads
        Stream ``2 * flow`` is client to server.
    flows : (N,) int64
    names : (N,) int64
        What to call each flow in the messages.
    """
    known = heads.known_until()
    found: list[tuple[int, int, _Entry]] = []
    for flow, name in zip(flows.tolist(), names.tolist(), strict=True):
        for side in (0, 1):
            stream = 2 * flow + side
            octets = heads.head(stream)[: int(known[stream])].tobytes()
            if octets:
                first, last = int(heads.segments_offsets[stream]), int(heads.segments_offsets[stream + 1])
                starts = heads.segment_position[first:last].tolist()
                found += [(stream, name, entry) for entry in _read_stream(octets, starts, from_client=side == 0)]
    frames = heads.frames_at(
        np.array([stream for stream, _, _ in found], np.int64), np.array([e[0] for _, _, e in found], np.int64)
    )
    return [
        make_message(
            name,
            frame,
            from_client=stream % 2 == 0,
            version=version,
            headers=fields,
            method=method,
            target=target,
            status=status,
        )
        for frame, (stream, name, (_, method, target, status, version, fields)) in zip(
            frames.tolist(), found, strict=True
        )
    ]
