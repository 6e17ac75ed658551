"""Connections that left the memory of a live session, counted by channel and answers."""

from __future__ import annotations

import numpy as np

from analyzer.registries import ClientCertificate, Encryption, ServerVerification
from analyzer.report.audit_result import AgedOutSummary, Document, time_text
from analyzer.report.sections.connections import ConnectionTable
from analyzer.rules import Audit


def departed(summary: AgedOutSummary, audit: Audit, table: ConnectionTable) -> Document:
    """Connections that left memory by channel and answers; most of them are judged as the one that stands for them."""
    verdicts, gone = audit.verdicts, summary.departed
    rows = np.flatnonzero(audit.connections)
    aged = audit.evidence.aged_out
    stood_for = np.zeros((3, rows.shape[0]), np.int64)
    if aged is not None:
        stood_for = np.stack([aged.connections[rows], aged.packets[rows], aged.octets[rows]])
    keys = np.concatenate(
        [
            np.stack(
                [
                    audit.channels.channel[rows],
                    verdicts.encryption.value[rows],
                    verdicts.client_certificate.value[rows],
                    verdicts.server_verification.value[rows],
                ],
                axis=1,
            ).astype(np.int64),
            np.stack(
                [
                    gone.channel,
                    gone.encryption,
                    gone.client_certificate,
                    gone.server_verification,
                ],
                axis=1,
            ),
        ]
    )
    left = np.stack([gone.connections, gone.packets, gone.octets])
    counts = np.concatenate([stood_for, left], axis=1)
    distinct, group = np.unique(keys[counts[0] > 0], axis=0, return_inverse=True)
    connections, packets, octets = (
        np.bincount(group.reshape(-1), count[counts[0] > 0], minlength=distinct.shape[0]).astype(np.int64).tolist()
        for count in counts
    )
    groups = [
        {
            "channel": table.catalogue[channel].id,
            "title": table.catalogue[channel].title,
            "encryption": Encryption(encryption).label,
            "client_certificate": ClientCertificate(certificate).label,
            "server_verification": ServerVerification(verification).label,
            "connections": connections[row],
            "packets": packets[row],
            "octets": octets[row],
        }
        for row, (channel, encryption, certificate, verification) in enumerate(distinct.tolist())
    ]
    return {
        "connections": sum(connections),
        "packets": sum(packets),
        "octets": sum(octets),
        "without_stand_in": int(gone.connections.sum()),
        "early": summary.early,
        "first_time": time_text(summary.first_ns),
        "last_time": time_text(summary.last_ns),
        "groups": sorted(groups, key=lambda g: (-int(g["connections"]), g["channel"], g["encryption"])),
    }
