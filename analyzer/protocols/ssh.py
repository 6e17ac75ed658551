"""SSH in clear: identification strings (RFC 4253 4.2) and key exchange offers (RFC 4253 7.1), with their fingerprints.

HASSH: https://github.com/salesforce/hassh (BSD-3-Clause).
"""

from __future__ import annotations

import hashlib
import tomllib
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple

from analyzer.protocols.stream import TEXT_LIMIT, Stream, read_streams, text
from analyzer.schema import I64, SshFacts, StreamHeads

MAX_IDENTIFICATION: Final = 255
"""Octets of the string with its line end (RFC 4253 4.2)."""
MAX_LINES: Final = 1024
"""Lines before the string that are passed over; OpenSSH's SSH_MAX_PRE_BANNER_LINES."""
MAX_PACKET: Final = 35000
"""Octets of a packet every implementation must accept (RFC 4253 6.1)."""
MAX_PACKETS: Final = 4
"""Packets looked at for KEXINIT: it comes first, but for SSH_MSG_IGNORE and SSH_MSG_DEBUG (RFC 4253 11)."""

_KEXINIT: Final = 20
_PASSED_OVER: Final = (2, 4)
_COOKIE: Final = 16
_LISTS: Final = 10

KEX, HOST_KEY, CIPHER_C2S, CIPHER_S2C, MAC_C2S, MAC_S2C, COMPRESSION_C2S, COMPRESSION_S2C = range(8)
"""Name lists of SSH_MSG_KEXINIT, in their order (RFC 4253 7.1); two lists of languages follow."""
_NEGOTIATED: Final = (
    ("kex", KEX, "kex"),
    ("host key", HOST_KEY, "host_key"),
    ("cipher to server", CIPHER_C2S, "encryption"),
    ("cipher to client", CIPHER_S2C, "encryption"),
    ("mac to server", MAC_C2S, "mac"),
    ("mac to client", MAC_S2C, "mac"),
)
# Ciphers that authenticate by themselves: the MAC negotiated beside them is not used (RFC 5647 5.1, PROTOCOL 1.6).
_AEAD: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "AEAD_AES_*_GCM")
# Names that are no algorithms: signals of RFC 8308 and of OpenSSH (PROTOCOL 1.9, 1.10).
_SIGNALS: Final = ("ext-info-c", "ext-info-s", "kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com")

NameLists = tuple[tuple[str, ...], ...]

_REMEMBERED: Final = 256
"""Distinct offers remembered: programs make the same one on every connection, so a cluster has a handful."""


class _Weak(NamedTuple):
    kind: str
    name: str
    why: str
    source: str


@cache
def _weak() -> tuple[_Weak, ...]:
    rows = tomllib.loads(files("analyzer.data").joinpath("ssh_algorithms.toml").read_text("utf-8"))["weak"]
    return tuple(_Weak(**row) for row in rows)


def weakness(kind: str, name: str) -> str:
    """Why an algorithm should no longer be used, with the source; empty where it may.

    Parameters
    ----------
    kind : str
        ``kex``, ``host_key``, ``encryption`` or ``mac``.
    name : str
    """
    found = next((row for row in _weak() if row.kind == kind and fnmatchcase(name, row.name)), None)
    return f"{found.why} ({found.source})" if found else ""


def read_ssh(heads: StreamHeads, flows: I64, names: I64 | None = None) -> list[SshFacts]:
    """Read identification strings and key exchange offers of each flow.

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
        not hold the whole line, or the line is longer than the RFC allows. What rests on an offer that was not
        captured whole is empty.
    """
    facts: list[SshFacts] = []
    for flow, client, server in read_streams(heads, flows, names):
        (client_line, client_frame, client_at), (server_line, server_frame, server_at) = (
            _banner(client),
            _banner(server),
        )
        banners, offers = _exchange(client_line, server_line, _offer(client, client_at), _offer(server, server_at))
        facts.append(SshFacts(flow, banners[0], banners[1], client_frame, server_frame, *offers))
    return facts


class _Offers(NamedTuple):
    """What is read of two offers: attributes of `SshFacts`, in their order there."""

    client_offer: NameLists
    server_offer: NameLists
    hassh: str
    hassh_server: str
    negotiated: tuple[tuple[str, str], ...]
    weak: tuple[tuple[str, str], ...]


@lru_cache(_REMEMBERED)
def _exchange(client: str, server: str, client_offer: bytes, server_offer: bytes) -> tuple[tuple[str, str], _Offers]:
    """Banners and what two offers say; hosts send the same ones to everybody, and equal ones are kept once."""
    ours, theirs = _name_lists(client_offer), _name_lists(server_offer)
    negotiated = _negotiated(ours, theirs) if ours and theirs else ()
    return (client, server), _Offers(
        ours,
        theirs,
        _fingerprint(ours, CIPHER_C2S, MAC_C2S, COMPRESSION_C2S),
        _fingerprint(theirs, CIPHER_S2C, MAC_S2C, COMPRESSION_S2C),
        negotiated,
        _weaknesses(negotiated),
    )


def _banner(stream: Stream) -> tuple[str, int, int]:
    """Identification string, the frame it begins in, and where it ends.

    Lines before it are allowed, "SSH-" begins none of them.
    """
    at = 0
    for _ in range(MAX_LINES):
        stop = stream.octets.find(b"\n", at)
        if stop < 0:
            break
        if stream.octets.startswith(b"SSH-", at):
            # Some implementations end the line with LF alone (RFC 4253 5.1 says so of version 1 peers).
            if stop + 1 - at > MAX_IDENTIFICATION:
                break
            return text(stream.octets[at:stop].removesuffix(b"\r")), stream.frame_at(at), stop + 1
        at = stop + 1
    return "", 0, -1


def _offer(stream: Stream, at: int) -> bytes:
    """Octets of the side's SSH_MSG_KEXINIT from its name lists on; empty where it was not captured whole.

    Packets are in clear until the keys are taken into use (RFC 4253 6): length, padding length, payload, padding.
    """
    octets = stream.octets
    for _ in range(MAX_PACKETS if at >= 0 else 0):
        length = int.from_bytes(octets[at : at + 4])
        stop = at + 4 + length
        if len(octets) < at + 6 or not 2 <= length <= MAX_PACKET or stop > len(octets):
            break
        payload = octets[at + 5 : stop - octets[at + 4]]
        if payload[:1] == bytes([_KEXINIT]):
            return payload[1 + _COOKIE :]
        if payload[:1] not in (bytes([kind]) for kind in _PASSED_OVER):
            break
        at = stop
    return b""


@lru_cache(_REMEMBERED)
def _name_lists(octets: bytes) -> NameLists:
    found: list[tuple[str, ...]] = []
    at = 0
    for _ in range(_LISTS):
        length = int.from_bytes(octets[at : at + 4])
        if at + 4 + length > len(octets):
            return ()
        # Names are US-ASCII (RFC 4251 6); what is not survives as ISO 8859-1.
        names = octets[at + 4 : at + 4 + length].decode("latin-1")
        found.append(tuple(names.split(",")) if names else ())
        at += 4 + length
    return tuple(found)


@lru_cache(_REMEMBERED)
def _fingerprint(offer: NameLists, *lists: int) -> str:
    """HASSH: MD5 over the key exchange, cipher, MAC and compression lists of one direction."""
    if not offer:
        return ""
    joined = ";".join(",".join(offer[number]) for number in (KEX, *lists))
    return hashlib.md5(joined.encode("latin-1"), usedforsecurity=False).hexdigest()


@lru_cache(_REMEMBERED)
def _negotiated(client: NameLists, server: NameLists) -> tuple[tuple[str, str], ...]:
    """What both sides will use: the first of the client's names that the server has too (RFC 4253 7.1).

    The MAC beside a cipher that needs none is left out.
    """
    chosen: dict[str, str] = {}
    for label, number, _ in _NEGOTIATED:
        known = frozenset(server[number])
        name = next((name for name in client[number] if name in known and name not in _SIGNALS), "")
        if label.startswith("mac"):
            cipher = chosen.get(label.replace("mac", "cipher"), "")
            if any(fnmatchcase(cipher, pattern) for pattern in _AEAD):
                continue
        if name:
            chosen[label] = name[:TEXT_LIMIT]
    return tuple(chosen.items())


@lru_cache(_REMEMBERED)
def _weaknesses(negotiated: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """(algorithm, why) of what was negotiated and should not have been, each once."""
    kinds = {label: kind for label, _, kind in _NEGOTIATED}
    found = {name: weakness(kinds[label], name) for label, name in negotiated}
    return tuple((name, why) for name, why in found.items() if why)
