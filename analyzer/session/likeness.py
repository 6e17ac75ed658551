"""Which connections are alike: all that decides over roles, channels, verdicts and findings is the same of them.

Of connections that are alike a few are enough, for what they say about the cluster and for what is said of them. What
is left out here is what no stage reads to decide: client ports, times, sequence numbers, how much was sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.report.audit_result import AuditResult
from analyzer.schema import I64, TLS_STRINGS, U8, HttpMessage, SshFacts, TlsFacts

_APART: Final = frozenset(
    {*TLS_STRINGS, "flow", "client_chain", "server_chain", "server_certificate_len", "client_certificate_len"}
)
"""TLS facts that are not compared as they stand: indices by what they point to, lengths by what they were read as."""
_CONSTANT_PATH: Final = 3
"""Components of a request path that tell what is asked for: ``/api/v1/nodes``; what follows are names."""
_IN_USE: Final = "konnectivity-agent-to-server"
"""Of its connections it matters how much they carried."""


def likenesses(result: AuditResult, groups: I64, chosen: I64) -> dict[int, bytes]:
    """What tells groups of flows that belong together from others that are not alike.

    Parameters
    ----------
    result : AuditResult
    groups : (F,) int64
        The group of each flow: of legs and of what was found inside others, the row of the connection.
    chosen : (K,) int64
        The groups to describe.

    Returns
    -------
    dict
        Group to 16 octets: the same for groups of as many flows that are alike one by one, in order.
    """
    wanted = np.zeros(len(result.audit.evidence), bool)
    wanted[chosen] = True
    rows = np.flatnonzero(wanted[groups])
    table = _table(result, rows)
    said = _said(result, rows)
    found: dict[int, Any] = {}
    for place, row in enumerate(rows.tolist()):
        digest = found.setdefault(int(groups[row]), blake2b(digest_size=16))
        digest.update(table[place].tobytes())
        digest.update(said.get(row, b""))
    return {group: digest.digest() for group, digest in found.items()}


def _table(result: AuditResult, rows: I64) -> NDArray[np.uint8]:
    """All that numbers say of `rows`: (K, octets) uint8."""
    audit = result.audit
    evidence, verdicts, flows = audit.evidence, audit.verdicts, audit.evidence.flows
    payload = flows.payload_octets[rows]
    used = np.array([channel == _IN_USE for channel in _channel_names()], bool)[audit.channels.channel[rows]]
    columns: list[NDArray[Any]] = [
        flows.port[rows, 1],
        flows.protocol[rows],
        flows.encapsulation[rows],
        flows.vantage[rows],
        evidence.identification.protocol[rows],
        evidence.identification.from_start[rows],
        evidence.from_start[rows],
        evidence.mid_connection[rows],
        evidence.gap[rows],
        evidence.conflict[rows],
        evidence.crowded[rows],
        flows.cut_packets[rows] > 0,
        flows.packets[rows] > 0,
        payload > 0,
        np.where(used[:, None], np.frexp(payload.astype(np.float64))[1] >> 1, 0),
        evidence.leg_of[rows] >= 0,
        audit.channels.channel[rows],
        audit.channels.grade[rows],
        audit.channels.via[rows],
        _texts(audit.channels.reasons)[audit.channels.reason[rows]],
        _findings(result, rows),
        *_tls(result, rows),
    ]
    for answer in (verdicts.encryption, verdicts.client_certificate, verdicts.server_verification):
        columns += [answer.value[rows], answer.grade[rows], _texts(answer.reasons)[answer.reason[rows]]]
    parts: list[U8] = [flows.address[rows].reshape(rows.shape[0], -1)]
    parts += [
        np.ascontiguousarray(column.reshape(rows.shape[0], -1).astype(np.int64)).view(np.uint8) for column in columns
    ]
    return np.concatenate(parts, axis=1)


def _channel_names() -> list[str]:
    from analyzer.cluster.catalogue import channels

    return [channel.id for channel in channels()]


def _texts(texts: Iterable[str]) -> I64:
    """A number for each text and, as the last one, for none: the same for the same text for as long as we run."""
    return np.array([*(hash(text) for text in texts), 0], np.int64)


def _findings(result: AuditResult, rows: I64) -> I64:
    """A number for the findings that each of `rows` shows."""
    shown = np.zeros(len(result.audit.evidence), np.uint64)
    for finding in result.findings:
        name = hash((finding.rule.code, finding.channel, finding.suppression)) & 0xFFFFFFFFFFFFFFFF
        shown[list(finding.connections)] += np.uint64(name)
    return shown[rows].view(np.int64)


def _tls(result: AuditResult, rows: I64) -> list[I64]:
    """TLS facts but for frames, with texts and chains by what they say."""
    evidence = result.audit.evidence
    reading = evidence.tls
    texts = _texts(reading.strings)
    certificates = [certificate.sha256 for certificate in reading.certificates]
    chains = np.array([*(hash(tuple(certificates[c] for c in chain)) for chain in reading.chains), 0], np.int64)
    columns: list[I64] = [np.minimum(evidence.tls_row[rows], 0)]
    for name in TLS_STRINGS:
        columns.append(texts[evidence.tls_column(name, -1)[rows]])
    for name in ("client_chain", "server_chain"):
        columns.append(chains[evidence.tls_column(name, -1)[rows]])
    for column in fields(TlsFacts):
        if column.name not in _APART and not column.name.endswith("_frame"):
            columns.append(evidence.tls_column(column.name, -1)[rows])
    return columns


def _said(result: AuditResult, rows: I64) -> dict[int, bytes]:
    """What the readable words of each of `rows` come to."""
    wanted = np.zeros(len(result.audit.evidence), bool)
    wanted[rows] = True
    messages: dict[int, set[tuple[object, ...]]] = {}
    clear = result.audit.evidence.cleartext
    for message in clear.http:
        if wanted[message.flow]:
            messages.setdefault(message.flow, set()).add(_gist(message))
    said = {flow: repr(sorted(gists, key=repr)).encode() for flow, gists in messages.items()}
    for facts in clear.ssh:
        if wanted[facts.flow]:
            said[facts.flow] = _ssh(facts)
    return said


def _gist(message: HttpMessage) -> tuple[object, ...]:
    """What of a message can decide anything."""
    return (
        message.from_client,
        message.version,
        message.method,
        _opening(message.target),
        _opening(message.forwarded_uri, _CONSTANT_PATH + 2),
        message.status,
        message.upgrade,
        message.user_agent,
        message.subprotocol,
        message.credential,
        message.decrypted,
    )


def _opening(target: str, components: int = _CONSTANT_PATH) -> str:
    return "/".join(target.partition("?")[0].split("/")[: components + 1])


def _ssh(facts: SshFacts) -> bytes:
    shown = (facts.client_banner, facts.server_banner, facts.hassh, facts.hassh_server, facts.negotiated, facts.weak)
    return repr(shown).encode()
