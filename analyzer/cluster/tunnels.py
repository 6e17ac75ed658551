"""SSH connections told apart: the API server's tunnels to nodes, and sessions of administrators and tools.

`--ssh-user` made the API server hold one connection of Go's SSH client to every node and send all traffic for kubelets
through it (pkg/ssh/ssh.go, removed in 1.22). So a tunnel has the banner of Go, comes from the control plane, stays, and
there is no other connection of the control plane to that node's kubelet. Each of these can be missing from a capture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.cluster.roles import NODE, Roles, ServiceKind
from analyzer.decode.transport import TCP
from analyzer.numbers import among, distinct
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Protocol, Ternary
from analyzer.schema import I64, Mask

SSH_PORT: Final = 22
GO_BANNER: Final = "SSH-2.0-Go"
"""golang.org/x/crypto/ssh transport.go, packageVersion."""
LONG: Final = 0.5
"""Share of the capture from which a connection counts as one that stays."""

_Reasons = list[tuple[str, Mask]]


@dataclass(frozen=True, slots=True)
class SshConnections:
    """Which connections are tunnels and which sessions, each set with the reason; the first that names one decides."""

    tunnels: _Reasons
    sessions: _Reasons


def ssh_tunnels(evidence: Evidence, roles: Roles, from_control_plane: Mask) -> SshConnections:
    """Tell tunnels from sessions.

    Parameters
    ----------
    evidence : Evidence
    roles : Roles
    from_control_plane : (F,) bool
        Connections whose client is a host of the control plane.
    """
    n = len(evidence)
    is_ssh = evidence.identification.protocol == Protocol.SSH
    go = np.zeros(n, bool)
    go[[flow for flow, facts in evidence.ssh.items() if facts.client_banner.startswith(GO_BANNER)]] = True
    silent = evidence.identification.protocol == Protocol.NO_DATA
    # Without its banner an SSH connection is encrypted octets on the port of SSH.
    blind = (evidence.flows.protocol == TCP) & (evidence.flows.port[:, 1] == SSH_PORT) & ~is_ssh & ~silent
    blind &= evidence.mid_connection
    direct = _served_directly(evidence, roles, from_control_plane, is_ssh | blind)
    stays = _stays(evidence)
    fan = _fan(roles, (go & is_ssh & stays) | blind)
    relayed = _relays(evidence, roles)
    tunnels: _Reasons = []
    sessions: _Reasons = [
        (
            "a Go SSH client on the control plane, which also dials this node's kubelet directly: no tunnel of the API "
            "server",
            is_ssh & go & from_control_plane & direct,
        )
    ]
    tunnelling = is_ssh & go & from_control_plane & ~direct
    for count in distinct(fan[tunnelling]).tolist():
        reached = f"one long connection to each of {count} nodes" if count > 1 else "to a node"
        rows = tunnelling & (fan == count)
        tunnels.append((f"a Go SSH client on the control plane dials a node ({reached})", rows & stays))
        tunnels.append(("a Go SSH client on the control plane dials a node, for a short time", rows))
    unplaced = is_ssh & go & ~from_control_plane & stays & (fan > 1) & roles.server_is(NODE) & ~direct
    unplaced &= ~roles.client_is(NODE)
    tunnels.append(("a Go SSH client holds one long connection to each of several nodes", unplaced))
    long_held = blind & from_control_plane & roles.server_is(NODE) & ~direct
    held = "the control plane has long held a connection to a node's SSH port"
    tunnels.append((f"{held}, and the node dials its kubelet with a client certificate for it", long_held & relayed))
    tunnels.append((f"{held}, as to other nodes", long_held & (fan > 1)))
    tunnels.append((f"{held}, and no other connection to its kubelet is seen", long_held & stays))
    sessions += [
        ("SSH, not from the control plane's Go client", is_ssh),
        (
            "begun before the capture on the port of SSH: banners, which would tell a tunnel from a session, are not "
            "in it",
            blind,
        ),
        ("the port of SSH", (evidence.flows.protocol == TCP) & (evidence.flows.port[:, 1] == SSH_PORT)),
    ]
    return SshConnections(tunnels, sessions)


def _stays(evidence: Evidence) -> Mask:
    """Connections that last for a good part of the capture: (F,) bool."""
    flows = evidence.flows
    if len(flows) == 0:
        return np.zeros(0, bool)
    span = int(flows.last_ns.max()) - int(flows.first_ns.min())
    stays: Mask = flows.last_ns - flows.first_ns >= span * LONG
    return stays


def _fan(roles: Roles, rows: Mask) -> I64:
    """Servers to which the client of each connection holds such connections, exactly one to each: (F,) int64."""
    size = np.int64(roles.addresses.shape[0])
    pairs, counts = np.unique(roles.client[rows] * size + roles.server[rows], return_counts=True)
    single = np.bincount(pairs[counts == 1] // size, minlength=int(size))
    crowded = np.bincount(pairs[counts > 1] // size, minlength=int(size))
    fan: I64 = np.where(crowded > 0, 0, single)[roles.client]
    return fan


def _served_directly(evidence: Evidence, roles: Roles, from_control_plane: Mask, asked: Mask) -> Mask:
    """Those of `asked` between a pair of hosts of which the client also talks to the other's kubelet: (F,) bool."""
    size = np.int64(roles.addresses.shape[0])
    talks = evidence.carried_payload & from_control_plane
    kubelet = talks & (roles.kind() == ServiceKind.KUBELET)
    pairs = roles.client * size + roles.server
    direct = np.zeros(len(evidence), bool)
    direct[asked] = among(pairs[asked], pairs[kubelet])
    return direct


def _relays(evidence: Evidence, roles: Roles) -> Mask:
    """Connections whose server dials its own kubelet with a client certificate, as the API server does: (F,) bool."""
    kubelet = (roles.kind() == ServiceKind.KUBELET) & evidence.tls_is("client_certificate", Ternary.YES)
    own = kubelet & (roles.client == roles.server)
    return np.isin(roles.server, roles.client[own])
