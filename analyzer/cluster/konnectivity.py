"""What a capture shows of the konnectivity service: its agents, how steady they are, and what goes through or around.

Facts for rules and reports. An agent's connection is usually encrypted and older than the capture: then octets and
directions are all there is, and they tell an idle tunnel (keep-alives of a few octets) from one in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.cluster.channels import ChannelColumns, of_channel
from analyzer.cluster.roles import CONTROL_PLANE, LOOPBACK, NODE, Roles
from analyzer.flows import FIN, RST
from analyzer.numbers import distinct
from analyzer.protocols.evidence import Evidence
from analyzer.schema import I64, Mask

TO_NODES: Final = (
    "apiserver-to-kubelet",
    "apiserver-to-node-proxy",
    "apiserver-to-pod-proxy",
    "apiserver-to-service-proxy",
    "apiserver-to-webhook",
)
"""Channels that an egress selector for ``cluster`` sends through the tunnel."""
IDLE_OCTETS: Final = 1024
"""Payload octets an hour, each way, below which a tunnel is idle; grpc's keep-alive is a PING of 17, in TLS 39."""
OPENING_OCTETS: Final = 8 * 1024
"""Payload octets with which a tunnel opens at most: a TLS handshake with certificates, and the first header blocks."""


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """The connections of one agent's host to one server.

    Attributes
    ----------
    address, server : int
        Rows of `Roles.addresses`.
    port : int
        Where the server listens for agents.
    connections, refused : int
        With an answer, or none but resets: an agent that cannot connect tries again and again.
    reconnects : int
        Openings seen after an earlier connection of the same host to the same server had been there and had ended.
    open_at_end : int
        Connections that had not been closed when the capture ended.
    octets_to_agent, octets_from_agent : int
        Payload; where the tunnel is in use, requests of the API server and what nodes answer.
    in_use : bool
        More than keep-alives.
    carried : int
        Connections found inside.
    first_frame : int
    """

    address: int
    server: int
    port: int
    connections: int
    refused: int
    reconnects: int
    open_at_end: int
    octets_to_agent: int
    octets_from_agent: int
    in_use: bool
    carried: int
    first_frame: int


@dataclass(frozen=True, slots=True)
class KonnectivityFacts:
    """The service as a whole.

    Attributes
    ----------
    agents : tuple of AgentFacts
        By address and server.
    nodes_without : tuple of int
        Known nodes, not of the control plane, from which no agent was seen: rows of `Roles.addresses`. Whether that
        means anything depends on where the capture was taken.
    through, around : (F,) bool
        Connections of the control plane to nodes, pods and services that came out of the tunnel or were found in it,
        and those it opened itself.
    """

    agents: tuple[AgentFacts, ...]
    nodes_without: tuple[int, ...]
    through: Mask
    around: Mask


def konnectivity_facts(evidence: Evidence, roles: Roles, channels: ChannelColumns) -> KonnectivityFacts:
    """Gather the facts; all of them empty where no agent was seen."""
    own = (evidence.leg_of < 0) & (evidence.carrier < 0)
    agents = of_channel(channels, "konnectivity-agent-to-server") & own
    to_nodes = np.zeros(len(evidence), bool)
    for name in TO_NODES:
        to_nodes |= of_channel(channels, name)
    to_nodes &= (evidence.leg_of < 0) & evidence.carried_payload
    from_control_plane = roles.client_is(CONTROL_PLANE)
    rows = np.flatnonzero(agents)
    key = (roles.client[rows] << 32) | roles.service[rows]
    carried = np.bincount(evidence.carriers, minlength=len(evidence))
    found = tuple(_agent(evidence, roles, rows[key == value], carried) for value in distinct(key).tolist())
    seen = np.zeros(roles.addresses.shape[0], bool)
    seen[[agent.address for agent in found if agent.connections]] = True
    nodes = roles.member[NODE] & ~roles.member[CONTROL_PLANE] & ~roles.member[LOOPBACK] & ~seen
    present = bool(seen.any())
    return KonnectivityFacts(
        found,
        tuple(np.flatnonzero(nodes).tolist()) if present else (),
        to_nodes & (~from_control_plane | (evidence.carrier >= 0)),
        to_nodes & from_control_plane & (evidence.carrier < 0),
    )


def _agent(evidence: Evidence, roles: Roles, rows: I64, carried: I64) -> AgentFacts:
    flows = evidence.flows
    payload = flows.payload_octets[rows]
    either = flows.flags[rows, 0] | flows.flags[rows, 1]
    ended = (either & (FIN | RST)) != 0
    # Without payload, but with packets both ways and no reset, an old connection was merely silent.
    refused = ((either & RST) != 0) | (flows.packets[rows] == 0).any(axis=1)
    refused &= (payload == 0).all(axis=1)
    held = np.flatnonzero(~refused)
    opened = held[flows.syn_seq[rows[held], 0] >= 0]
    reconnects = sum(
        bool(((flows.first_ns[rows[held]] < flows.first_ns[rows[one]]) & ended[held]).any()) for one in opened.tolist()
    )
    seconds = (flows.last_ns[rows] - flows.first_ns[rows]) / 1e9
    allowed = IDLE_OCTETS + IDLE_OCTETS * seconds / 3600
    # What opens a tunnel, handshake and headers, is not yet use: it is a few thousand octets.
    allowed = np.where(flows.syn_seq[rows, 0] >= 0, allowed + OPENING_OCTETS, allowed)
    return AgentFacts(
        address=int(roles.client[rows[0]]),
        server=int(roles.server[rows[0]]),
        port=int(flows.port[rows[0], 1]),
        connections=int((~refused).sum()),
        refused=int(refused.sum()),
        reconnects=reconnects,
        open_at_end=int((~refused & ~ended).sum()),
        octets_to_agent=int(payload[:, 1].sum()),
        octets_from_agent=int(payload[:, 0].sum()),
        in_use=bool((payload > allowed[:, None]).any()),
        carried=int(carried[rows].sum()),
        first_frame=int(flows.first_frame[rows].min()),
    )
