"""Made-up moments of a live session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analyzer.report.live_view import LiveChannel, LiveFinding, LiveHealth, LiveView, Moment
from analyzer.report.schema_document import GRADES, QUESTIONS

START_NS = 1_795_428_000 * 10**9


def counts(labels: tuple[str, ...], **given: int) -> dict[str, int]:
    return {label: given.get(label, 0) for label in labels}


def channel(name: str = "apiserver-to-kubelet", **changed: Any) -> LiveChannel:
    plain = LiveChannel(
        id=name,
        title=name.replace("-", " ").capitalize(),
        core=True,
        verdict="at-risk",
        sentence="The API server accepts any certificate.",
        answers={
            "encryption": counts(QUESTIONS["encryption"], encrypted=8),
            "client_certificate": counts(QUESTIONS["client_certificate"], presented=6, undecidable=2),
            "server_verification": counts(QUESTIONS["server_verification"], unverified=8),
        },
        grades={
            "encryption": counts(GRADES, observed=8),
            "client_certificate": counts(GRADES, inferred=6, none=2),
            "server_verification": counts(GRADES, inferred=8),
        },
        connections=8,
        open=3,
        packets=1200,
        octets=480_000,
        packets_per_s=12.5,
        octets_per_s=4096.0,
        clients=("10.0.0.10",),
        servers=("10.0.0.11", "10.0.0.12"),
    )
    return replace(plain, **changed)


def finding(code: str = "PW201", channel: str = "apiserver-to-kubelet", **changed: Any) -> LiveFinding:
    plain = LiveFinding(
        identity=f"{code}/{channel}",
        code=code,
        name="kubelet-unverified",
        title="The API server does not verify kubelet certificates",
        severity="high",
        grade="inferred",
        channel=channel,
        connections=8,
        sentence="Handshakes with kubelets whose certificate cannot have been checked: 8 connections.",
        first_seen_ns=START_NS,
        hosts=("10.0.0.11 (node1)",),
        frames=(4, 9, 17),
        filter="tcp.port == 10250",
    )
    return replace(plain, **changed)


def view(*items: LiveChannel | LiveFinding, **changed: Any) -> LiveView:
    plain = LiveView(
        time_ns=START_NS + 60 * 10**9,
        frames=1200,
        octets=480_000,
        packets_per_s=12.5,
        octets_per_s=4096.0,
        channels=tuple(item for item in items if isinstance(item, LiveChannel)),
        findings=tuple(item for item in items if isinstance(item, LiveFinding)),
        open_connections=3,
        retained_connections=8,
        aged_out=1,
        concluded_ns=START_NS + 60 * 10**9,
    )
    return replace(plain, **changed)


def moment(*items: LiveChannel | LiveFinding, health: dict[str, Any] | None = None, **changed: Any) -> Moment:
    plain = LiveHealth("eth0", "AF_PACKET ring", 83.0, received=1203, dropped=3, lag_s=0.012)
    return Moment(view(*items, **changed), replace(plain, **(health or {})))
