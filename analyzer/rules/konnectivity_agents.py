"""PW504: a node without a konnectivity agent."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.cluster.roles import CONTROL_PLANE, NODE, ServiceKind
from analyzer.flows import RST
from analyzer.numbers import distinct
from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

KEEPALIVE_NS: Final = 30 * 10**9
"""Two intervals of the TCP keep-alive that Go sets on every connection (net.Dialer.KeepAlive, 15 s): an agent's idle
connection shows itself within that time."""


def _check(audit: Audit) -> Outcome:
    roles, flows = audit.roles, audit.evidence.flows
    dials = audit.on("konnectivity-agent-to-server")
    agents = dials & audit.evidence.carried_payload
    # A connection that was open before the capture and carried nothing but acknowledgements is an idle agent's.
    idle = dials & audit.evidence.mid_connection & ~audit.evidence.one_sided
    idle &= (flows.flags[:, 0] | flows.flags[:, 1]) & RST == 0
    none = np.zeros(len(audit.evidence), bool)
    calls = audit.on("node-to-apiserver") & audit.recognised & roles.client_is(NODE) & ~roles.client_is(CONTROL_PLANE)
    serving = np.zeros(roles.addresses.shape[0], bool)
    serving[roles.server[agents | (roles.kind() == ServiceKind.KONNECTIVITY_AGENTS)]] = True
    has_agent = np.zeros(roles.addresses.shape[0], bool)
    has_agent[roles.client[agents | idle]] = True
    listed = audit.with_client(audit.declared.agent_nodes)
    scope = calls if agents.any() else none
    # Only where agents dial the host that serves the API would a node's agent have been captured beside its calls.
    same_host = serving[roles.server]
    silent = scope & ~has_agent[roles.client] & ~listed
    long_enough = int(flows.last_ns.max(initial=0) - flows.first_ns.min(initial=flows.last_ns.max(initial=0)))
    told = same_host & (long_enough >= KEEPALIVE_NS)
    rows = np.flatnonzero(silent & told)
    names = {int(a): roles.names.get(int(a), "") for a in distinct(roles.client[rows])}
    return outcome(
        scope=scope,
        decidable=~silent | told,
        violation=silent,
        grade=Grade.INFERRED,
        frames=[flows.first_frame],
        detail={int(row): f"no agent seen of {names[int(roles.client[row])] or 'a node'}" for row in rows[:1000]},
    )


KONNECTIVITY_AGENTS = Rule(
    code="PW504",
    name="node-without-konnectivity-agent",
    title="A node has no konnectivity agent connected",
    severity=Severity.LOW,
    channels=("node-to-apiserver", "konnectivity-agent-to-server"),
    needs="traffic of agents and of the nodes' kubelets, captured at the control plane",
    seen="a node calls the API server and no agent of it is connected, while agents of other nodes are",
    why="The API server reaches a node without an agent through another node's agent, or not at all: logs, exec and "
    "webhooks there then depend on the network between nodes.",
    remediation="Run the agent on every node: let the DaemonSet tolerate all taints, and look at the agent's log.",
    flags=("konnectivity-agent DaemonSet: tolerations, nodeSelector", "konnectivity-agent: --proxy-server-host"),
    source="https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/",
    cis="",
    limits="Decided only in captures of half a minute and more, in which an idle connection shows its keep-alive. "
    "Agents of a Deployment need not run on every node.",
    filter="tcp",
    check=_check,
)
