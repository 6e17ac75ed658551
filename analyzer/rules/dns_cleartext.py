"""PW110: cluster DNS is in cleartext."""

from __future__ import annotations

from analyzer.registries import Grade, Protocol, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    protocol = audit.evidence.identification.protocol
    return outcome(
        scope=audit.on("cluster-dns") & audit.off_host,
        decidable=audit.recognised,
        violation=protocol == Protocol.DNS,
        grade=Grade.OBSERVED,
        frames=[audit.evidence.identification.frame, audit.evidence.flows.first_frame],
    )


DNS_CLEARTEXT = Rule(
    code="PW110",
    name="dns-in-cleartext",
    title="DNS crosses the network in cleartext",
    severity=Severity.INFO,
    channels=("cluster-dns",),
    needs="the first datagrams",
    seen="readable DNS messages between hosts",
    why="Answers can be read and forged by whoever is on the path; a forged answer sends a client that does not check "
    "certificates to another server. Kubernetes DNS is cleartext by design.",
    remediation="Use NodeLocal DNSCache, so that pods ask their own node, or an encrypting network plugin; have "
    "clients check certificates.",
    flags=("CoreDNS: forward . tls://ADDRESS (for what leaves the cluster)",),
    source="https://kubernetes.io/docs/tasks/administer-cluster/nodelocaldns/",
    cis="",
    limits="",
    filter="dns",
    check=_check,
)
