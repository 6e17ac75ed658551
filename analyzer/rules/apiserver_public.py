"""PW307: the API server is reached from public addresses."""

from __future__ import annotations

import ipaddress
from typing import Final

import numpy as np

from analyzer.cluster.roles import in_network
from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

_PRIVATE: Final = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
"""RFC 1918 3, RFC 4193 3."""


def _check(audit: Audit) -> Outcome:
    addresses = audit.roles.addresses
    calls = np.zeros(addresses.shape[0], bool)
    calls[audit.roles.client[audit.on("user-to-apiserver")]] = True
    public = np.zeros(addresses.shape[0], bool)
    # Most are private, which is told of all at once; asking `ipaddress` takes 5 us each.
    inside = np.any([in_network(addresses, network) for network in _PRIVATE], axis=0)
    for row in np.flatnonzero(calls & ~inside).tolist():
        address = ipaddress.IPv6Address(addresses[row].tobytes())
        # IANA's special-purpose registries (RFC 6890): private, shared, documentation ... addresses are not global.
        public[row] = (address.ipv4_mapped or address).is_global
    return outcome(
        scope=audit.on("user-to-apiserver"),
        decidable=audit.recognised,
        violation=public[audit.roles.client],
        grade=Grade.OBSERVED,
        frames=[audit.evidence.identification.frame, audit.evidence.flows.first_frame],
    )


APISERVER_PUBLIC = Rule(
    code="PW307",
    name="apiserver-reached-from-public-addresses",
    title="The API server is reached from public addresses",
    severity=Severity.LOW,
    channels=("user-to-apiserver",),
    needs="a connection with payload",
    seen="clients with globally routable addresses reach the API server",
    why="An API server that the internet reaches is open to password and token guessing and to every flaw in its "
    "handling of requests before authentication.",
    remediation="Make the endpoint private and reach it through a VPN or bastion, or limit it to known networks.",
    flags=(
        "EKS: endpointPublicAccess: false or publicAccessCidrs",
        "GKE: authorized networks, private endpoint",
        "AKS: --api-server-authorized-ip-ranges",
    ),
    source="https://kubernetes.io/docs/concepts/security/controlling-access/",
    cis="",
    limits="Networks that use public addresses inside look the same. Documentation addresses (RFC 5737) are not "
    "public.",
    filter="tls.handshake || tls.record.content_type == 23",
    check=_check,
)
