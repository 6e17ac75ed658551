"""Whether a server's readable certificate names what its client dialled (RFC 9525 6)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from analyzer.cluster.roles import LOOPBACK_NAME, Roles, ServiceKind, address_text
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Ternary
from analyzer.schema import Certificate, Mask

_FIXED: Final = (
    ServiceKind.KUBELET,
    ServiceKind.ETCD,
    ServiceKind.KONNECTIVITY_AGENTS,
    ServiceKind.KONNECTIVITY_FRONTEND,
)
"""Services that are dialled at their own address; what stands behind a Service may have been dialled at another."""


class NameComparison(NamedTuple):
    """How certificates compare with what was dialled.

    ``scope`` (F,) bool: connections with a readable certificate that is meant to name its server; ``known`` (F,) bool:
    what was dialled is known; ``mismatch`` (F,) bool: the certificate does not name it; ``detail`` what was dialled and
    what is named, for the first connection of each kind.
    """

    scope: Mask
    known: Mask
    mismatch: Mask
    detail: dict[int, str]


def names_endpoint(certificate: Certificate, name: str, address: str) -> bool:
    """Whether a certificate names what was dialled: `name`, or where it is empty `address`.

    A certificate without any subject alternative name is given the benefit of its common name, as old clients do.
    """
    if not name:
        wanted = ipaddress.ip_address(address)
        return any(_same_address(text, wanted) for text in certificate.ip_addresses)
    listed = certificate.dns_names or (() if certificate.ip_addresses else (certificate.common_name,))
    name = name.rstrip(".").lower()
    return any(_matches(pattern.rstrip(".").lower(), name) for pattern in listed)


def _same_address(text: str, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return _parsed(text) == wanted


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == name
    first, dot, rest = name.partition(".")
    return bool(first and dot) and rest == pattern[2:]


def compare_names(evidence: Evidence, roles: Roles) -> NameComparison:
    """Compare every readable server certificate with what its client dialled.

    The server name of the ClientHello is what was dialled; without one the server's address is, unless it was
    translated on the way. Self-made certificates of kubelets and the API server's loopback certificate are left out:
    they are not meant to name anything.
    """
    leaf = evidence.leaf("server")
    sni = evidence.tls_column("sni", -1)
    fixed = np.isin(roles.kind(), _FIXED)
    made = evidence.tls_is("server_self_made", Ternary.YES)
    loopback = evidence.tls_text_in("sni", frozenset({LOOPBACK_NAME}))
    scope: Mask = (leaf >= 0) & ~made & ~loopback
    mismatch = np.zeros(len(evidence), bool)
    detail: dict[int, str] = {}
    rows = np.flatnonzero(scope)
    keys = np.stack([leaf[rows], sni[rows], np.where(sni[rows] < 0, roles.server[rows], -1)], axis=1)
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    for number, (certificate_row, name_row, server_row) in enumerate(distinct.tolist()):
        certificate = evidence.tls.certificates[certificate_row]
        name = evidence.tls.strings[name_row] if name_row >= 0 else ""
        address = address_text(roles.addresses[server_row]) if server_row >= 0 else ""
        if not names_endpoint(certificate, name, address):
            here = rows[inverse == number]
            mismatch[here] = True
            names = ", ".join([*certificate.dns_names, *certificate.ip_addresses][:6]) or "no names"
            detail[int(here[0])] = f"{name or address} was dialled; the certificate names {names}"
    return NameComparison(scope, (sni >= 0) | fixed | ~mismatch, mismatch, detail)
