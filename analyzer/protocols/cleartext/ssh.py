"""SSH identification strings (RFC 4253 4.2)."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.schema import I64, SshFacts, StreamHeads

MAX_BANNER: Final = 255
"""RFC 4253 4.2: at most 255 characters, CR and LF included."""
MAX_LINES: Final = 32
"""Lines a server may send before its identification string."""


def _banner(octets: bytes) -> tuple[str, int]:
    """Identification string and its position; empty where there is none."""
    at = 0
    for _ in range(MAX_LINES):
        end = octets.find(b"\n", at)
        line = octets[at : end if end >= 0 else len(octets)]
        if line.startswith(b"SSH-"):
            return line.rstrip(b"\r")[:MAX_BANNER].decode("latin-1"), at
        if end < 0:
            break
        at = end + 1
    return "", 0


def read_ssh(heads: StreamHeads, flows: I64) -> list[SshFacts]:
    """Read both banners of the given flows."""
    known = heads.known_until()
    facts: list[SshFacts] = []
    for flow in flows.tolist():
        sides: list[tuple[str, int]] = []
        for stream in (2 * flow, 2 * flow + 1):
            banner, at = _banner(heads.head(stream)[: int(known[stream])].tobytes())
            frame = heads.frames_at(np.array([stream]), np.array([at]))[0] if banner else 0
            sides.append((banner, int(frame)))
        facts.append(SshFacts(flow, sides[0][0], sides[1][0], sides[0][1], sides[1][1]))
    return facts
