"""Whether a server's readable certificate names what its client dialled (RFC 9525 6)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from analyzer.cluster.roles import LOOPBACK_NAME, Roles, ServiceKind, address_text
from analyzer.numbers import among
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Ternary
from analyzer.schema import I64, U8, Certificate, Mask

_FIXED: Final = (
    ServiceKind.KUBELET,
    ServiceKind.ETCD,
    ServiceKind.KONNECTIVITY_AGENTS,
    ServiceKind.KONNECTIVITY_FRONTEND,
)
"""Services that are dialled at their own address; what stands behind a Service may have been dialled at another."""

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]+")
"""A label as Go's crypto/x509 takes it (validHostname): no hyphen at its beginning."""


class NameComparison(NamedTuple):
    """How certificates compare with what was dialled.

    Attributes
    ----------
    matches : (F,) uint8
        `Ternary`: a readable certificate names what was dialled; unknown where none is readable.
    scope : (F,) bool
        Connections with a readable certificate that is meant to name its server.
    known : (F,) bool
        Of these, what was dialled is known, and whether the certificate names it can be said.
    mismatch : (F,) bool
        Of these, the certificate does not name it.
    detail : dict of int to str
        What was dialled and what is named, for the first connection of each kind.
    """

    matches: U8
    scope: Mask
    known: Mask
    mismatch: Mask
    detail: dict[int, str]


def names_endpoint(certificate: Certificate, name: str, addresses: Collection[str]) -> bool:
    """Whether a certificate names what was dialled: `name`, or where it is empty one of `addresses`.

    Addresses are texts in the one form that `address_text` gives them.

    Subject alternative names alone count (RFC 9525 2). Wildcards are compared as Go does: ``*`` as the whole leftmost
    label of a valid name stands for one label (crypto/x509, verify.go; RFC 9525 6.3); a name with other characters is
    compared as it stands.
    """
    if not name:
        return not _addresses(certificate.ip_addresses).isdisjoint(addresses)
    host = name.lower()
    return any(_matches(pattern.lower(), host) for pattern in certificate.dns_names)


@lru_cache(maxsize=1024)
def _addresses(texts: tuple[str, ...]) -> frozenset[str]:
    found = set()
    for text in texts:
        with suppress(ValueError):
            found.add(str(ipaddress.ip_address(text)))
    return frozenset(found)


def _matches(pattern: str, host: str) -> bool:
    wanted = host.removesuffix(".")
    if not (_valid(pattern, wildcard=True) and _valid(wanted)):
        return bool(pattern.strip(".")) and pattern == host
    listed, labels = pattern.split("."), wanted.split(".")
    return len(listed) == len(labels) and listed[1:] == labels[1:] and listed[0] in ("*", labels[0])


def _valid(name: str, wildcard: bool = False) -> bool:
    """Whether `name` is a host name, underscores allowed; with `wildcard` its first label may be ``*``."""
    if name == "*":
        return False
    labels = name.split(".")
    if wildcard and labels[0] == "*":
        del labels[0]
    return all(map(_LABEL.fullmatch, labels))


def compare_names(evidence: Evidence, roles: Roles) -> NameComparison:
    """Compare every readable server certificate with what its client dialled.

    The server name of the ClientHello is what was dialled. Without one it is the server's address, on any leg of the
    connection, unless it was translated on the way.

    Left out of ``scope``, because they are not meant to name anything: self-made certificates of kubelets, and the API
    server's loopback certificate. Not ``known``: a certificate without alternative names whose common name is the
    server's. Go has not looked at it since 1.15, other libraries do.
    """
    leaf = evidence.leaf("server")
    sni = evidence.tls_column("sni", -1)
    fixed = np.isin(roles.kind(), _FIXED)
    made = evidence.tls_is("server_self_made", Ternary.YES)
    loopback = evidence.tls_text_in("sni", frozenset({LOOPBACK_NAME}))
    matches = np.full(len(evidence), Ternary.UNKNOWN, np.uint8)
    by_common_name = np.zeros(len(evidence), bool)
    detail: dict[int, str] = {}
    rows = np.flatnonzero(leaf >= 0)
    dialled, servers = _dialled(evidence, roles, rows, sni)
    distinct, inverse = np.unique(np.stack([leaf[rows], sni[rows], dialled], axis=1), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    alike = np.split(rows[np.argsort(inverse, kind="stable")], np.cumsum(np.bincount(inverse))[:-1])
    for here, (certificate_row, name_row, dialled_row) in zip(alike, distinct.tolist(), strict=False):
        certificate = evidence.tls.certificates[certificate_row]
        name = evidence.tls.strings[name_row] if name_row >= 0 else ""
        addresses = [address_text(roles.addresses[server]) for server in servers[dialled_row]] if not name else []
        if names_endpoint(certificate, name, addresses):
            matches[here] = Ternary.YES
            continue
        matches[here] = Ternary.NO
        common_name = certificate.common_name.lower()
        by_common_name[here] = bool(name) and not certificate.dns_names and _matches(common_name, name.lower())
        listed = ", ".join([*certificate.dns_names, *certificate.ip_addresses][:6]) or "no names"
        detail[int(here[0])] = f"{name or ' or '.join(addresses)} was dialled; the certificate names {listed}"
    scope: Mask = (leaf >= 0) & ~made & ~loopback
    mismatch: Mask = scope & (matches == Ternary.NO)
    known: Mask = ((sni >= 0) | fixed | ~mismatch) & (evidence.client_is_go | ~by_common_name)
    return NameComparison(matches, scope, known, mismatch, detail)


def _dialled(evidence: Evidence, roles: Roles, rows: I64, sni: I64) -> tuple[I64, list[tuple[int, ...]]]:
    """What each of `rows` dialled without a name, and the sets of servers (rows of ``roles.addresses``) that means.

    One server, or where a connection was seen at several legs each leg's.
    """
    n = len(roles.addresses)
    sets: list[tuple[int, ...]] = [(server,) for server in range(n)]
    chosen = np.where(sni[rows] >= 0, -1, roles.server[rows]).astype(np.int64)
    legs = np.flatnonzero(evidence.leg_of >= 0)
    servers: dict[int, set[int]] = {}
    for leg in legs.tolist():
        root = int(evidence.leg_of[leg])
        servers.setdefault(root, {int(roles.server[root])}).add(int(roles.server[leg]))
    for at in np.flatnonzero((chosen >= 0) & among(evidence.root[rows], np.array(list(servers), np.int64))).tolist():
        chosen[at] = len(sets)
        sets.append(tuple(sorted(servers[int(evidence.root[rows[at]])])))
    return chosen, sets
