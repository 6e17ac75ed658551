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


def read_ssh(heads: StreamHeads, flows: I64, names: I64) -> list[SshFacts]:
    """Read both banners of the given flows; see `http1.read_http1` for the parameters."""
    known = heads.known_until()
    streams = np.stack([2 * flows, 2 * flows + 1], axis=1).reshape(-1)
    banners = [_banner(heads.head(s)[: int(known[s])].tobytes()) for s in streams.tolist()]
    frames = heads.frames_at(streams, np.array([at for _, at in banners], np.int64)).tolist()
    facts: list[SshFacts] = []
    for row, name in enumerate(names.tolist()):
        (client, _), (server, _) = banners[2 * row], banners[2 * row + 1]
        frame = frames[2 * row : 2 * row + 2]
        facts.append(SshFacts(name, client, server, frame[0] if client else 0, frame[1] if server else 0))
    return facts
