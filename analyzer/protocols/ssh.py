"""SSH identification strings (RFC 4253 4.2)."""

from __future__ import annotations

from typing import Final

from analyzer.protocols.stream import Stream, read_streams, text
from analyzer.schema import I64, SshFacts, StreamHeads

MAX_IDENTIFICATION: Final = 255
"""Octets of the string with its line end (RFC 4253 4.2)."""
MAX_LINES: Final = 1024
"""Lines before the string that are passed over; OpenSSH's SSH_MAX_PRE_BANNER_LINES."""


def read_ssh(heads: StreamHeads, flows: I64, names: I64 | None = None) -> list[SshFacts]:
    """Read the identification strings of each flow.

    Parameters
    ----------
    heads : StreamHeads
    flows : (K,) int64
        Flows whose content is SSH, by their place in `heads`.
    names : (K,) int64, optional
        Rows of the flow table, where they are not the same: what `SshFacts.flow` is to hold.

    Returns
    -------
    list of SshFacts
        One a flow, in the order of `flows`. A banner has no line end; it is empty and its frame 0 where the head does
        not hold the whole line, or the line is longer than the RFC allows.
    """
    facts: list[SshFacts] = []
    for flow, client, server in read_streams(heads, flows, names):
        (client_banner, client_frame), (server_banner, server_frame) = _banner(client), _banner(server)
        facts.append(SshFacts(flow, client_banner, server_banner, client_frame, server_frame))
    return facts


def _banner(stream: Stream) -> tuple[str, int]:
    """Identification string and the frame it begins in. Lines before it are allowed, "SSH-" begins none of them."""
    at = 0
    for _ in range(MAX_LINES):
        stop = stream.octets.find(b"\n", at)
        if stop < 0:
            break
        if stream.octets.startswith(b"SSH-", at):
            # Some implementations end the line with LF alone (RFC 4253 5.1 says so of version 1 peers).
            whole = stop + 1 - at <= MAX_IDENTIFICATION
            return (text(stream.octets[at:stop].removesuffix(b"\r")), stream.frame_at(at)) if whole else ("", 0)
        at = stop + 1
    return "", 0
