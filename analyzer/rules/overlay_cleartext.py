"""PW109: an overlay that does not encrypt carries control-plane traffic that does not either."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.registries import Encryption, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

_TUNNEL: Final = re.compile(r"(?:^|/)(vxlan|geneve|gre|ipip|ipv6ip)(?::\d+)?")

CHANNELS = tuple(channel.id for channel in channels() if channel.core)


def _check(audit: Audit) -> Outcome:
    evidence = audit.evidence
    kinds = [found[1] if (found := _TUNNEL.search(path)) else "" for path in evidence.paths]
    inside = np.array([bool(kind) for kind in kinds], bool)[evidence.flows.encapsulation]
    answer = audit.verdicts.encryption
    # Legs count here: the one inside the tunnel may not be the first that was seen.
    core = np.array([channel.core for channel in channels()], bool)[audit.channels.channel]
    scope = core & inside
    rows = np.flatnonzero(scope)[:1000]
    return outcome(
        scope=scope,
        decidable=answer.value != Encryption.UNDECIDABLE,
        violation=answer.value == Encryption.CLEARTEXT,
        grade=answer.grade,
        frames=[evidence.identification.frame, evidence.flows.first_frame],
        detail={int(row): f"carried by {kinds[evidence.flows.encapsulation[row]]}" for row in rows},
    )


OVERLAY_CLEARTEXT = Rule(
    code="PW109",
    name="overlay-in-cleartext",
    title="The overlay network does not protect cleartext control-plane traffic",
    severity=Severity.MEDIUM,
    channels=CHANNELS,
    needs="the tunnel's packets",
    seen="cleartext requests of the control plane inside a tunnel that does not encrypt",
    why="Traffic that cannot use TLS could at least be encrypted by the network between the hosts. VXLAN, Geneve, GRE "
    "and IP-in-IP do not: whoever sees the hosts' network reads it.",
    remediation="Switch on the network plugin's encryption (WireGuard or IPsec), or send control-plane traffic through "
    "konnectivity.",
    flags=(
        "Calico: FelixConfiguration wireguardEnabled: true",
        "Cilium: encryption.enabled=true, encryption.type=wireguard",
        "flannel: net-conf.json Backend Type wireguard",
    ),
    source="https://kubernetes.io/docs/concepts/cluster-administration/networking/",
    cis="",
    limits="Traffic mirrored to the capturing host in VXLAN or GRE looks like an overlay. Connections that are "
    "encrypted themselves comply: the tunnel shows no more of them than the wire would.",
    filter="http || http2",
    check=_check,
)
