"""Second question where the handshake is not readable: the configuration speaks, and says that it does."""

from __future__ import annotations

import pytest

from analyzer.cluster.channels import of_channel
from analyzer.registries import ClientCertificate, Grade
from analyzer.report.audit_result import AuditResult
from tests.rules.cases import excerpt, facts, reconsidered, recorded

PRESENTED, ABSENT, OPEN = ClientCertificate.PRESENTED, ClientCertificate.ABSENT, ClientCertificate.UNDECIDABLE


def answers(result: AuditResult, channel: str) -> set[tuple[ClientCertificate, Grade]]:
    audit = result.audit
    here = of_channel(audit.channels, channel) & audit.connections & audit.recognised
    answer = audit.verdicts.client_certificate
    pairs = zip(answer.value[here].tolist(), answer.grade[here].tolist(), strict=True)
    return {(ClientCertificate(value), Grade(grade)) for value, grade in pairs}


@pytest.mark.parametrize(("declared", "value"), [(True, PRESENTED), (False, ABSENT)])
def test_the_flag_speaks_where_the_handshake_was_before_the_capture(declared: bool, value: ClientCertificate) -> None:
    result = reconsidered("26b-fmt", {"kubelet_certificate": declared})

    assert answers(result, "apiserver-to-kubelet") == {(value, Grade.DECLARED)}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(("--kubelet-client-certificate=/x",), (PRESENTED, Grade.DECLARED)), ((), (ABSENT, Grade.DECLARED))],
)
def test_the_flag_speaks_where_the_client_s_flight_was_lost(
    flags: tuple[str, ...], expected: tuple[ClientCertificate, Grade]
) -> None:
    facts_of_tls = recorded("01-default").audit.evidence.tls.facts
    lost = set(facts_of_tls.client_flight_frame.tolist())

    result = excerpt("01-default", lambda number, _: number not in lost, facts(*flags))

    assert answers(result, "apiserver-to-kubelet") == {expected}


def test_without_the_flag_it_stays_open() -> None:
    found = answers(recorded("26b-fmt", own_facts=False), "apiserver-to-kubelet")

    assert {value for value, _ in found} == {OPEN}


def test_the_wire_wins_over_the_flag() -> None:
    found = answers(reconsidered("02b-ver", {"kubelet_certificate": True}), "apiserver-to-kubelet")

    assert found == {(ABSENT, Grade.INFERRED)}
