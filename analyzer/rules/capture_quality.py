"""PW901: the capture is too poor to judge a channel of the control plane."""

from __future__ import annotations

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.registries import ClientCertificate, Encryption, Grade, Protocol, ServerVerification, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    core = np.array([channel.core for channel in channels()], bool)[audit.channels.channel]
    silent = audit.evidence.identification.protocol == Protocol.NO_DATA
    scope = audit.connections & core & ~silent
    verdicts = audit.verdicts
    open_questions = (
        (verdicts.encryption.value == Encryption.UNDECIDABLE)
        | (verdicts.client_certificate.value == ClientCertificate.UNDECIDABLE)
        | (verdicts.server_verification.value == ServerVerification.UNDECIDABLE)
    )
    flows = audit.evidence.flows
    one_sided = audit.evidence.one_sided
    poor = audit.evidence.mid_connection | one_sided | audit.evidence.gap | (flows.cut_packets > 0)
    rows = np.flatnonzero(scope & open_questions & poor)
    detail = {}
    for row in rows[:1000].tolist():
        if flows.cut_packets[row]:
            detail[row] = "packets cut by the snap length: capture with -s 0"
        elif audit.evidence.mid_connection[row]:
            detail[row] = "the handshake was before the capture: start the capture first, then restart the client"
        elif one_sided[row]:
            detail[row] = "only one direction was captured"
        else:
            detail[row] = "packets are missing from the handshake"
    return outcome(
        scope=scope,
        decidable=np.ones_like(scope),
        violation=open_questions & poor,
        grade=Grade.OBSERVED,
        frames=[flows.first_frame],
        detail=detail,
    )


CAPTURE_TOO_POOR = Rule(
    code="PW901",
    name="capture-too-poor-to-judge",
    title="The capture cannot answer every question about this channel",
    severity=Severity.INFO,
    channels=(),
    needs="nothing",
    seen="connections whose handshake is missing, cut or incomplete",
    why="What was not captured cannot be judged, and is not called safe.",
    remediation="Capture whole packets from before the connections begin: tcpdump -s 0 -w FILE, then restart the "
    "client (for a kubelet: systemctl restart kubelet) so that it dials again.",
    flags=("tcpdump -i any -s 0 -w node.pcap",),
    source="https://www.tcpdump.org/manpages/tcpdump.1.html",
    cis="",
    limits="",
    filter="tcp",
    check=_check,
)
