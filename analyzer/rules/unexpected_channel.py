"""PW602: a node is reached on a port that the communication matrix does not list."""

from __future__ import annotations

import numpy as np

from analyzer.cluster.roles import CONTROL_PLANE, NODE
from analyzer.decode.transport import TCP, UDP
from analyzer.flows import RST, SYN
from analyzer.registries import Grade, InitiatorSource, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    flows, roles, expectation = audit.evidence.flows, audit.roles, audit.declared.expectation
    none = np.zeros(len(audit.evidence), bool)
    master, node = roles.server_is(CONTROL_PLANE), roles.server_is(NODE)
    transport = np.isin(flows.protocol, (TCP, UDP))
    # A connection that was refused reached no service.
    refused = (flows.flags[:, 1] & RST > 0) & (flows.flags[:, 1] & SYN == 0) & (flows.payload_octets[:, 1] == 0)
    scope = audit.off_host & transport & (master | node) & ~refused if expectation is not None else none
    who = np.isin(flows.initiator, (InitiatorSource.SYN, InitiatorSource.SYN_ACK, InitiatorSource.CONTENT))
    answered = (flows.payload_octets[:, 1] > 0) | (flows.flags[:, 1] & SYN > 0)
    listed = none.copy()
    if expectation is not None:
        rows = np.flatnonzero(scope)
        keys = np.stack([flows.protocol[rows], flows.port[rows, 1], master[rows], node[rows]], axis=1).astype(np.int64)
        distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
        verdicts = [
            expectation.allows(protocol, port, frozenset(n for n, has in (("master", m), ("worker", w)) if has))
            for protocol, port, m, w in distinct.tolist()
        ]
        listed[rows] = np.array(verdicts, bool)[inverse.reshape(-1)]
    unlisted = np.flatnonzero(scope & answered & ~listed)
    names = {TCP: "TCP", UDP: "UDP"}
    return outcome(
        scope=scope,
        decidable=answered & (who | listed),
        violation=~listed,
        grade=Grade.OBSERVED,
        frames=[flows.first_frame],
        detail={
            row: f"{names[int(flows.protocol[row])]} {int(flows.port[row, 1])} on a "
            f"{'control plane' if master[row] else 'worker'} host is not listed"
            for row in unlisted[:1000].tolist()
        },
    )


UNEXPECTED_CHANNEL = Rule(
    code="PW602",
    name="unexpected-channel",
    title="A node is reached on a port that the communication matrix does not list",
    severity=Severity.MEDIUM,
    channels=(),
    needs="a communication matrix (--expect)",
    seen="answered connections to ports of nodes that the matrix does not list for their role",
    why="The matrix is what firewalls are built from and what was reviewed. What is not in it was not expected by "
    "either.",
    remediation="Find the program behind the port. Add it to the matrix if it belongs there; else stop it or close the "
    "port.",
    flags=("ss -tulpn on the node", "oc commatrix generate; --expect communication-matrix.csv"),
    source="https://github.com/openshift-kni/commatrix",
    cis="",
    limits="A port that the matrix lists and nobody used is no finding: a capture cannot show that nothing listens.",
    filter="tcp || udp",
    check=_check,
)
