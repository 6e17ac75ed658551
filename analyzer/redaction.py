"""Mask the credentials in captured HTTP/1, so that a proof can be shown without handing over what it is about.

Streams are laid out by sequence number first, so that a token that spans segments, or comes twice, is masked in every
frame that carries a part of it. Lengths stay, so frames, sequence numbers and field names are what they were; TCP
checksums of masked frames no longer match. Of a JSON Web Token only the signature goes: whose token it is stays to be
seen, and without its signature it opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MASK: Final = b"x"
REDACTED: Final = "REDACTED"
_MAX_SPAN: Final = 32 << 20
"""Octets of one direction that are laid out; what lies beyond is masked segment by segment."""

_FIELD: Final = re.compile(
    rb"(?:^|\n)(?P<name>proxy-authorization|authorization|cookie|set-cookie|x-auth-token|x-api-key|x-amz-security-token"
    rb"|sec-websocket-protocol)[ \t]*:[ \t]*(?P<value>[^\r\n]*)",
    re.IGNORECASE,
)
_QUERY: Final = re.compile(
    rb"[?&;](?:[a-z0-9]{1,32}[_-]){0,3}"
    rb"(?:token|password|passwd|pwd|secret|signature|sig|assertion|credential|api[_-]?key)=(?P<value>[^&;#\s]+)",
    re.IGNORECASE,
)
_USERINFO: Final = re.compile(rb"[a-z][a-z0-9+.-]{0,15}://(?P<value>[^/?#@\s]{1,512})@", re.IGNORECASE)
_JWT: Final = re.compile(rb"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{2,}\.(?P<value>[A-Za-z0-9_-]+)")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9-]*[ \t]+")
_WEBSOCKET: Final = re.compile(rb"base64url\.bearer\.authorization\.k8s\.io\.(?P<value>[^,\s]+)")
_COOKIE: Final = re.compile(rb"=(?P<value>[^;]*)")


_SPOKEN: Final = re.compile(r"(?i)\b(bearer|basic|digest|negotiate|ntlm|dpop|token)([ \t]+)([A-Za-z0-9._~+/=-]{6,})")
"""A scheme and what follows it, in text that somebody else made of a packet."""
_SPOKEN_QUERY: Final = re.compile(
    r"(?i)\b((?:[a-z0-9]{1,32}[_-]){0,3}"
    r"(?:token|password|passwd|pwd|secret|signature|sig|assertion|credential|api[_-]?key)=)[^&;#\s\]]+"
)
_SPOKEN_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{2,}(?:\.[A-Za-z0-9_-]*)?")


def redacted_text(text: str) -> str:
    """Return one line of a dissection without the credentials in it; unlike in a proof, tokens go as a whole."""
    octets = b"\n" + text.encode("utf-8", "surrogatepass")
    for start, stop in sorted(secret_ranges(octets), reverse=True):
        octets = octets[:start] + REDACTED.encode() + octets[stop:]
    plain = octets[1:].decode("utf-8", "surrogatepass")
    plain = _SPOKEN.sub(lambda match: f"{match[1]}{match[2]}{REDACTED}", plain)
    plain = _SPOKEN_QUERY.sub(lambda match: f"{match[1]}{REDACTED}", plain)
    return _SPOKEN_JWT.sub(REDACTED, plain)


_NOT_HTTP: Final = (*(bytes([kind, 3]) for kind in (20, 21, 22, 23)), b"SSH-")
"""TLS records (RFC 8446 5.1) and SSH banners: what looks like a field in there is none."""
_LONG: Final = 8
"""Octets from which a secret is looked for everywhere: a shorter one would be found by chance."""


@dataclass(frozen=True, slots=True)
class Segment:
    """TCP payload of one frame: where it lies in the frame, and in its stream."""

    frame: int
    start: int
    stop: int
    seq: int


def secret_ranges(octets: bytes) -> list[tuple[int, int]]:
    """Return what must not be read, as half-open ranges of positions."""
    found: list[tuple[int, int]] = []
    for field in _FIELD.finditer(octets):
        found += _value_ranges(field["name"].lower(), field["value"], field.start("value"))
    for pattern in (_QUERY, _USERINFO, _JWT):
        found += [match.span("value") for match in pattern.finditer(octets)]
    return [(start, stop) for start, stop in found if stop > start]


def _value_ranges(name: bytes, value: bytes, at: int) -> list[tuple[int, int]]:
    if name == b"sec-websocket-protocol":
        return [(at + m.start("value"), at + m.end("value")) for m in _WEBSOCKET.finditer(value)]
    if name.endswith(b"cookie"):
        return [(at + m.start("value"), at + m.end("value")) for m in _COOKIE.finditer(value)]
    scheme = _SCHEME.match(value) if name.endswith(b"authorization") else None
    begin = scheme.end() if scheme else 0
    token = _JWT.match(value, begin)
    if token and token.end() == len(value.rstrip()):
        return [(at + token.start("value"), at + token.end("value"))]
    return [(at + begin, at + len(value))]


def masked(frames: Mapping[int, bytes], streams: Sequence[Sequence[Segment]]) -> tuple[dict[int, bytes], set[bytes]]:
    """Mask the secrets of all streams.

    Parameters
    ----------
    frames : mapping of int to bytes
        Octets of each frame by number.
    streams : sequence of sequences of Segment
        One a direction of a connection.

    Returns
    -------
    frames : dict of int to bytes
        The same, masked.
    secrets : set of bytes
        What was masked, to make sure that it is nowhere else.
    """
    changed = {number: bytearray(octets) for number, octets in frames.items()}
    secrets: set[bytes] = set()
    for segments in streams:
        for part in _spans(segments):
            _mask_part(part, frames, changed, secrets)
    for octets in changed.values():
        for secret in secrets:
            # A session id that a page repeats, a token that an answer echoes.
            if len(secret) >= _LONG and secret in octets:
                octets[:] = octets.replace(secret, MASK * len(secret))
    return {number: bytes(octets) for number, octets in changed.items()}, secrets


def _spans(segments: Sequence[Segment]) -> list[list[tuple[int, Segment]]]:
    """Segments with their positions (RFC 9293 3.4: sequence numbers wrap), in spans without a hole between them."""
    if not segments:
        return []
    first = segments[0].seq
    # Differences are signed: what was sent before the first captured segment may be seen later.
    wrap, half = 0xFFFFFFFF, 1 << 31
    positions = [((segment.seq - first + half) & wrap) - half for segment in segments]
    placed = sorted(zip(positions, segments, strict=True), key=lambda pair: (pair[0], pair[1].frame))
    spans: list[list[tuple[int, Segment]]] = []
    end = begin = 0
    for position, segment in placed:
        if not spans or position > end or position - begin > _MAX_SPAN:
            spans.append([])
            begin = end = position
        spans[-1].append((position, segment))
        end = max(end, position + segment.stop - segment.start)
    return spans


def _mask_part(
    part: Sequence[tuple[int, Segment]],
    frames: Mapping[int, bytes],
    changed: dict[int, bytearray],
    secrets: set[bytes],
) -> None:
    begin = part[0][0]
    stream = bytearray()
    for position, segment in reversed(part):
        at, octets = position - begin, frames[segment.frame][segment.start : segment.stop]
        if at + len(octets) > len(stream):
            stream += bytes(at + len(octets) - len(stream))
        stream[at : at + len(octets)] = octets
    if stream.startswith(_NOT_HTTP):
        return
    for start, stop in secret_ranges(bytes(stream)):
        secrets.add(bytes(stream[start:stop]))
        for position, segment in part:
            at = position - begin
            low, high = max(start, at), min(stop, at + segment.stop - segment.start)
            if low < high:
                where = slice(segment.start + low - at, segment.start + high - at)
                changed[segment.frame][where] = MASK * (high - low)
