"""Third question where the configuration speaks; what packets alone show is tested on recordings (tests/truth)."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.cluster.channels import of_channel
from analyzer.cluster.declarations import CalledService
from analyzer.registries import Grade, ServerVerification
from analyzer.report.audit_result import AuditResult
from tests.rules.cases import reconsidered, recorded

VERIFIED, UNVERIFIED, REFUSED, OPEN = (
    ServerVerification.VERIFIED,
    ServerVerification.UNVERIFIED,
    ServerVerification.REFUSED,
    ServerVerification.UNDECIDABLE,
)


def answers(result: AuditResult, channel: str) -> set[tuple[ServerVerification, Grade]]:
    """Distinct (value, grade) on the connections of a channel that carried something."""
    audit = result.audit
    here = of_channel(audit.channels, channel) & audit.connections & audit.recognised
    answer = audit.verdicts.server_verification
    return {
        (ServerVerification(int(value)), Grade(int(grade)))
        for value, grade in zip(answer.value[here], answer.grade[here], strict=True)
    }


@pytest.mark.parametrize(("declared", "value"), [(True, VERIFIED), (False, UNVERIFIED)])
def test_the_kubelet_ca_flag_speaks_where_packets_do_not(declared: bool, value: ServerVerification) -> None:
    result = reconsidered("26b-fmt", {"kubelet_ca": declared})

    assert answers(result, "apiserver-to-kubelet") == {(value, Grade.DECLARED)}


def test_the_wire_wins_over_the_flag() -> None:
    result = reconsidered("01-default", {"kubelet_ca": True})

    assert answers(result, "apiserver-to-kubelet") == {(UNVERIFIED, Grade.INFERRED)}


@pytest.mark.parametrize("name", ["20-fmt", "20b-fmt"])
def test_a_handshake_cut_by_the_snap_length_is_answered_by_the_flag(name: str) -> None:
    assert answers(recorded(name), "apiserver-to-kubelet") == {(UNVERIFIED, Grade.DECLARED)}
    assert {value for value, _ in answers(recorded(name, own_facts=False), "apiserver-to-kubelet")} == {OPEN}


def test_agents_whose_flags_are_given_check_the_server() -> None:
    result = reconsidered("07c-konn", {"agent_ca": True})

    assert answers(result, "konnectivity-agent-to-server") == {(VERIFIED, Grade.DECLARED)}
    assert {value for value, _ in answers(recorded("07c-konn"), "konnectivity-agent-to-server")} == {OPEN}


WEBHOOK_END = (bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 12]), 9444)


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ((), {(OPEN, Grade.DEFAULT), (REFUSED, Grade.INFERRED)}),
        (
            (CalledService("w", "", frozenset({WEBHOOK_END})),),
            {(VERIFIED, Grade.DECLARED), (OPEN, Grade.DEFAULT), (REFUSED, Grade.INFERRED)},
        ),
        (
            (CalledService("w", "", frozenset({WEBHOOK_END})), CalledService("x", "", frozenset({WEBHOOK_END}), False)),
            {(OPEN, Grade.DEFAULT), (REFUSED, Grade.INFERRED)},
        ),
    ],
    ids=["not declared", "declared", "declared twice, differently"],
)
def test_webhooks_are_answered_by_their_objects(called: tuple[CalledService, ...], expected: set[Any]) -> None:
    assert answers(reconsidered("13-adm", {"called": called}), "apiserver-to-webhook") == expected


def test_an_aggregated_api_that_is_not_checked() -> None:
    names = {s for s in recorded("13-adm").audit.evidence.tls.strings if s.endswith(".svc")}
    called = tuple(CalledService("APIService", name, verifies=False) for name in names)

    found = answers(reconsidered("13-adm", {"called": called}), "apiserver-to-webhook")

    assert (UNVERIFIED, Grade.DECLARED) in found


@pytest.mark.parametrize("name", ["09b-control", "10-tls12", "04c-pod"])
def test_users_and_pods_are_never_said_to_check(name: str) -> None:
    change = {"kubelet_ca": True, "node_kubeconfig_ca": True, "controlplane_kubeconfig_ca": True, "agent_ca": True}
    for result in (recorded(name), reconsidered(name, change)):
        for channel in ("user-to-apiserver", "pod-to-apiserver", "user-to-kubelet"):
            assert {value for value, _ in answers(result, channel)} <= {OPEN, UNVERIFIED, REFUSED}
