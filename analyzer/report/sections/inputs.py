"""The sections of the document about what was read: captures, vantage points, cluster facts, quality, and the books."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np

from analyzer.ledger import Ledger
from analyzer.numbers import distinct
from analyzer.protocols.evidence import Evidence
from analyzer.registries import LinkType
from analyzer.report.audit_result import (
    AgedOutSummary,
    AuditResult,
    CaptureSummary,
    ClusterSummary,
    Document,
    InputSummary,
    time_text,
)
from analyzer.rules import Audit

_MAX_SKEWS: Final = 12
"""Pairs of vantage points told in sentences; ``clock_skews`` has all."""
_MAX_COMMENTS: Final = 200
"""Comments listed of one capture."""
MAX_COMMENT: Final = 500


def packets_aged_out(evidence: Evidence, summary: AgedOutSummary) -> int:
    """Packets of flows that left memory, legs included."""
    stood_for = 0 if evidence.aged_out is None else int(evidence.aged_out.packets.sum())
    return stood_for + int(summary.departed.packets.sum()) + summary.leg_packets


def capture_entry(capture: CaptureSummary) -> Document:
    """One capture: what the file says of itself, and its books."""
    span = (
        round((capture.last_ns - capture.first_ns) / 1e9, 6)
        if capture.first_ns is not None and capture.last_ns is not None
        else 0.0
    )
    return {
        "name": capture.name,
        "format": capture.format,
        "octets": capture.octets,
        "frames": capture.frames,
        "first_time": time_text(capture.first_ns),
        "last_time": time_text(capture.last_ns),
        "duration_s": span,
        "interfaces": [
            {
                "name": i.name,
                "description": i.description,
                "hardware": i.hardware,
                "system": i.system,
                "filter": i.filter,
                "link_type": LinkType(i.link_type).name,
                "snaplen": i.snaplen,
                "received": i.received,
                "dropped": i.dropped,
            }
            for i in capture.interfaces
        ],
        "vantage": capture.vantage,
        "comment_count": len(capture.comments),
        "comments": [{"number": frame, "text": text[:MAX_COMMENT]} for frame, text in capture.comments[:_MAX_COMMENTS]],
        "ledger": _sums(capture.ledger) if capture.ledger is not None else None,
        "damage": [{"offset": d.offset, "reason": d.reason} for d in capture.damage],
    }


def _sums(ledger: Ledger) -> Document:
    """The books of one capture."""
    return {
        "decoded": ledger.decoded,
        "not_decoded": ledger.not_decoded(),
        "inner_packets": ledger.inner_packets,
        "packets_in_flows": ledger.in_flows,
        "packets_outside_flows": ledger.outside_flows(),
        "balanced": ledger.balanced,
    }


def vantage_points(result: AuditResult) -> list[Document]:
    """Where the captures were made, and what was seen elsewhere too."""
    flows, root = result.audit.evidence.flows, result.audit.evidence.root
    elsewhere = np.zeros(len(flows), bool)
    if len(result.inputs.vantages) > 1:
        places = np.unique(np.stack([root, flows.vantage.astype(np.int64)], axis=1), axis=0)[:, 0]
        several = np.bincount(places, minlength=len(flows)) > 1
        elsewhere = several[root]
    return [
        {
            "name": vantage.name,
            "captures": list(vantage.captures),
            "given": vantage.given,
            "assumed": vantage.assumed,
            "flows": int((flows.vantage == row).sum()),
            "connections": int(distinct(root[flows.vantage == row]).shape[0]),
            "seen_elsewhere": int((elsewhere & (flows.vantage == row)).sum()),
        }
        for row, vantage in enumerate(result.inputs.vantages)
    ]


def clock_skews(result: AuditResult) -> list[Document]:
    """How the clocks of two vantage points differ."""
    names = [vantage.name for vantage in result.inputs.vantages]
    return [
        {
            "one": names[skew.one],
            "other": names[skew.other],
            "offset_ns": skew.offset_ns if skew.handshakes else None,
            "spread_ns": skew.spread_ns if skew.handshakes else None,
            "delay_ns": skew.delay_ns if skew.handshakes else None,
            "handshakes": skew.handshakes,
            "connections": skew.shared,
        }
        for skew in result.audit.evidence.skews
    ]


def _skew_text(skew: Document) -> str:
    """What two vantage points share, and how their clocks differ, as one sentence."""
    shared = f"{skew['one']} and {skew['other']} both saw {skew['connections']} of the connections"
    if not skew["handshakes"]:
        return f"{shared}; no handshake was seen whole at both, so how their clocks differ is not known."
    ahead = "ahead of" if skew["offset_ns"] >= 0 else "behind"
    offset, spread = abs(skew["offset_ns"]) / 1e6, skew["spread_ns"] / 1e6
    return (
        f"{shared}; the clock of {skew['other']} is {offset:.3f} ms {ahead} that of {skew['one']}, by the median of "
        f"{skew['handshakes']} handshakes (nine tenths of them within {spread:.3f} ms)."
    )


def skipped_files(inputs: InputSummary) -> Document:
    """What was found and not analysed."""
    return {
        "count": inputs.skipped_count,
        "files": [{"name": s.name, "reason": s.reason, "named": s.named} for s in inputs.skipped],
    }


def cluster_facts(cluster: ClusterSummary) -> Document:
    """What was handed over about the cluster."""
    return {
        "given": cluster.given,
        "sources": list(cluster.sources),
        "nodes": cluster.nodes,
        "pods": cluster.pods,
        "services": cluster.services,
        "declared": [
            dict(zip(("component", "setting", "value", "source"), row, strict=True)) for row in cluster.declared
        ],
        "notes": list(cluster.notes),
    }


def _decryption_notes(audit: Audit) -> list[str]:
    """What the keys given did, by outcome; nothing where none were given."""
    counts = Counter(text for text in audit.evidence.tls_text("decryption") if text)
    return [
        f"{count} TLS connection{'s' if count > 1 else ''}: {text}."
        for text, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def quality_notes(result: AuditResult) -> Document:
    """What the capture cannot show, in sentences and numbers."""
    quality = result.audit.quality
    total = quality.connections
    notes: list[str] = []

    def note(count: int, text: str) -> None:
        if count:
            notes.append(f"{count} of {total} TCP connections {text}")

    note(quality.mid_connection, "began before the capture: their handshake, and who authenticated, is not in it.")
    note(quality.one_sided, "show one direction only: half of each handshake is missing.")
    note(quality.cut_by_snaplen, "have packets cut by the snap length: what was cut cannot be judged.")
    note(quality.with_gaps, "have gaps in the octets that matter: packets were lost by the capture.")
    note(quality.crowded, "carry more distinct HTTP requests than are read: a request late in them may be missing.")
    note(
        quality.conflicting,
        "hold different octets for one place of a stream, as an attacker or a broken device sends: the first copy is "
        "read, and the receiver may have read the other.",
    )
    if result.ledger.left_out:
        left_out = result.inputs.left_out
        notes.append(
            f"About {left_out.flows:,} flows came past the limit of {left_out.limit:,} ({left_out.where}) and were not "
            f"kept: {result.ledger.left_out:,} packets are in no verdict. {left_out.option} raises the limit."
        )
    if quality.dropped:
        notes.append(f"The capture itself says that {quality.dropped} frames were dropped.")
    if result.inputs.skipped_count:
        notes.append(f"{result.inputs.skipped_count} files that were found are no captures, or could not be read.")
    skews = sorted(clock_skews(result), key=lambda skew: -int(skew["connections"]))
    notes += [_skew_text(skew) for skew in skews[:_MAX_SKEWS]]
    if len(skews) > _MAX_SKEWS:
        notes.append(f"{len(skews) - _MAX_SKEWS:,} more pairs of vantage points saw connections in common.")
    for capture in result.captures:
        notes += [f"{capture.name}: damaged at offset {d.offset}: {d.reason}." for d in capture.damage]
    notes += _decryption_notes(result.audit)
    return {
        "notes": notes,
        "connections": total,
        "handshake_seen": quality.handshake_seen,
        "mid_connection": quality.mid_connection,
        "one_sided": quality.one_sided,
        "cut_by_snaplen": quality.cut_by_snaplen,
        "with_gaps": quality.with_gaps,
        "dropped": quality.dropped,
        "shares": _shares(result.audit),
    }


_MEANING: Final = {
    "handshake_seen": "versions, names and who authenticated can be judged",
    "mid_connection": "began before the capture: versions, names and who authenticated are not in it",
    "one_sided": "one direction only: what the other side offered or presented is not in it",
    "cut_by_snaplen": "cut by the snap length: what was cut off cannot be judged",
    "with_gaps": "octets that matter were lost: what they held cannot be judged",
    "crowded": "more distinct HTTP requests than are read: a late one may be missing",
    "conflicting": "different octets for one place of a stream: the first copy is read, the receiver may differ",
}


def _shares(audit: Audit) -> list[Document]:
    """Connections by what was captured of them, their part of the traffic, and how many verdicts that leaves open."""
    evidence, verdicts = audit.evidence, audit.verdicts
    masks = evidence.quality
    shares = []
    for name, mask in masks.items():
        if name != "connections" and not mask.any():
            continue
        shares.append(
            {
                "name": name,
                "connections": int(evidence.weight[mask].sum()),
                "packets": int(evidence.packets[mask].sum()),
                "octets": int(evidence.octets[mask].sum()),
                "undecidable": {
                    "encryption": int(evidence.weight[mask & (verdicts.encryption.value == 0)].sum()),
                    "client_certificate": int(evidence.weight[mask & (verdicts.client_certificate.value == 0)].sum()),
                    "server_verification": int(evidence.weight[mask & (verdicts.server_verification.value == 0)].sum()),
                },
                "meaning": _MEANING.get(name, "TCP connections that carried payload"),
            }
        )
    return shares


def books(result: AuditResult) -> Document:
    """Every frame by what became of it."""
    ledger, evidence = result.ledger, result.audit.evidence
    legs = int((evidence.leg_of >= 0).sum())
    not_decoded, outside = ledger.not_decoded(), ledger.outside_flows()
    lines: list[list[Any]] = [["Frames read", ledger.frames], ["of these decoded", ledger.decoded]]
    lines += [[f"not decoded: {reason}", n] for reason, n in not_decoded.items()]
    lines += [["Packets found inside tunnels", ledger.inner_packets], ["Packets in flows", ledger.in_flows]]
    lines += [[f"outside flows: {reason}", n] for reason, n in outside.items()]
    lines += [
        [title, count]
        for title, count in (
            ("IP datagrams put together from fragments", ledger.datagrams_joined),
            ("IP datagrams with a fragment missing", ledger.datagrams_incomplete),
            ("IP fragments with different octets for one place (the first copy is read)", ledger.fragment_conflicts),
        )
        if count
    ]
    left_out = result.inputs.left_out
    if ledger.left_out:
        lines += [[f"Flows past the limit of {left_out.limit:,}, about", left_out.flows]]
    inside = evidence.carriers.shape[0]
    balanced = ledger.balanced
    if result.aged_out is not None:
        gone = packets_aged_out(evidence, result.aged_out)
        lines += [["of these in connections that aged out and are in no row of the connection table", gone]]
        balanced &= int(evidence.flows.packets.sum()) + gone == ledger.in_flows
    lines += [["Flows", len(evidence) - inside], ["of these second legs of a connection (NAT, tunnel)", legs]]
    if inside:
        lines += [["Connections found inside others (CONNECT, konnectivity), without packets of their own", inside]]
    return {
        "frames": ledger.frames,
        "decoded": ledger.decoded,
        "not_decoded": not_decoded,
        "inner_packets": ledger.inner_packets,
        "packets_in_flows": ledger.in_flows,
        "packets_outside_flows": outside,
        "duplicates": ledger.duplicates,
        "flows": len(evidence) - inside,
        "legs": legs,
        "left_out": {
            "flows": left_out.flows,
            "packets": ledger.left_out,
            "octets": ledger.left_out_octets,
            "limit": left_out.limit,
        },
        "balanced": balanced,
        "lines": lines,
    }
