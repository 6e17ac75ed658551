"""The audit as one plain document: what the JSON output holds, and what every other output is drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer import __version__
from analyzer.cluster.catalogue import Channel, channels
from analyzer.cluster.konnectivity import konnectivity_facts
from analyzer.cluster.roles import CONTROL_PLANE, ROLES, ServiceKind, address_text
from analyzer.decode.transport import TCP, UDP
from analyzer.protocols.tls import go_releases, kubernetes_releases, suite_name
from analyzer.registries import (
    ClientCertificate,
    Encryption,
    Grade,
    InitiatorSource,
    Protocol,
    ServerVerification,
    Severity,
    Ternary,
    TlsVersion,
)
from analyzer.report.audit_result import (
    YEAR_10000_NS,
    AgedOutSummary,
    AuditResult,
    Document,
    InputSummary,
    time_text,
)
from analyzer.report.filters import with_frames
from analyzer.report.input_sections import (
    MAX_COMMENT,
    books,
    capture_entry,
    clock_skews,
    cluster_facts,
    quality_notes,
    skipped_files,
    vantage_points,
)
from analyzer.report.numbering import Numbering
from analyzer.report.outcome import exit_status
from analyzer.report.timeline import timeline
from analyzer.rules import Audit, Finding, Rule, RuleCount
from analyzer.rules.suppressions import Suppression
from analyzer.schema import I64, U8, Mask

SCHEMA_VERSION: Final = "1"

_PROTOCOL_NAMES: Final = {
    Protocol.UNKNOWN: "unknown",
    Protocol.NO_DATA: "no data",
    Protocol.TLS: "tls",
    Protocol.HTTP1: "http/1",
    Protocol.HTTP2: "http/2",
    Protocol.SSH: "ssh",
    Protocol.WIREGUARD: "wireguard",
    Protocol.ESP: "esp",
    Protocol.VXLAN: "vxlan",
    Protocol.GENEVE: "geneve",
    Protocol.IPIP: "ipip",
    Protocol.GRE: "gre",
    Protocol.DNS: "dns",
    Protocol.IKE: "ike",
    Protocol.QUIC: "quic",
    Protocol.AH: "ah",
    Protocol.ICMP: "icmp",
    Protocol.TUNNEL: "tunnel",
}
_TRANSPORTS: Final = {
    TCP: "tcp",
    UDP: "udp",
    4: "ipip",
    41: "ipv6ip",
    47: "gre",
    50: "esp",
    51: "ah",
    97: "etherip",
    137: "mpls",
}
_INITIATORS: Final = {
    InitiatorSource.SYN: "SYN",
    InitiatorSource.SYN_ACK: "SYN+ACK",
    InitiatorSource.CONTENT: "content",
    InitiatorSource.PORT: "port",
    InitiatorSource.FIRST_PACKET: "first packet",
}
_TERNARIES: Final = ("", "no", "yes")
_STACKS: Final = ("", "Go crypto/tls", "OpenSSL", "other")
# RFC 8446 4.2.7 and the IANA TLS Supported Groups registry: the ones clusters negotiate.
_GROUPS: Final = {
    23: "secp256r1",
    24: "secp384r1",
    25: "secp521r1",
    29: "x25519",
    30: "x448",
    256: "ffdhe2048",
    257: "ffdhe3072",
    4587: "SecP256r1MLKEM768",
    4588: "X25519MLKEM768",
    4589: "SecP384r1MLKEM1024",
    25497: "X25519Kyber768Draft00",
}
_MAX_ACTIVITY: Final = 5
_HIDDEN: Final = "(path sent before the capture)"
_MAX_NAMES: Final = 3
"""Names that a capture gives one address, listed of it."""
_MAX_NAME: Final = 253  # RFC 1035 2.3.4
SAID_BY_CAPTURE: Final = "(named by the capture)"
"""Stands behind a name that whoever wrote the capture chose: it decides nothing."""
_ROWS_A_PART: Final = 1 << 14
_MAX_AGENTS: Final = 5000
"""Agents and nodes listed; the largest clusters that Kubernetes is tested for have as many nodes."""
_MAX_LISTED: Final = 50
"""Addresses listed by name in one channel or finding."""


def build_document(result: AuditResult, fail_on: str = "high") -> Document:
    """Make the document; the same audit gives the same document, octet for octet when written.

    Parameters
    ----------
    result : AuditResult
    fail_on : str
        Severity from which findings fail the run, or ``never``.
    """
    audit = result.audit
    numbering = Numbering([c.first_number for c in result.captures], [c.name for c in result.captures])
    table = _Connections(audit, result.inputs)
    findings = [_finding(finding, table) for finding in result.findings]
    columns = table.columns()
    channel_rows = _channels(result, table)
    document: Document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "planewire", "version": __version__},
        "captures": [capture_entry(capture) for capture in result.captures],
        "vantage_points": vantage_points(result),
        "clock_skews": clock_skews(result),
        "skipped": skipped_files(result.inputs),
        "cluster": cluster_facts(result.cluster),
        "quality": quality_notes(result),
        "ledger": books(result),
        "endpoints": _endpoints(audit, table),
        "connections": {"columns": list(columns), "data": columns},
        "channels": channel_rows,
        "findings": findings,
        "suppressions": _suppressions(result),
        "rules": [_rule(count) for count in result.counts],
        "certificates": _certificates(audit, table),
        "fingerprints": _fingerprints(audit, table),
        "konnectivity": _konnectivity(audit, table),
        "timeline": _timeline(audit, table, channel_rows),
    }
    if result.aged_out is not None:
        document["aged_out"] = _aged_out(result.aged_out, audit, table)
    document["summary"] = _summary(document, result)
    numbering.settle(document)
    document["outcome"] = {"fail_on": fail_on, "exit_status": exit_status(document, fail_on)}
    return document


def at_a_glance(result: AuditResult) -> tuple[list[Document], list[Document]]:
    """The document's ``channels`` and ``findings`` alone."""
    table = _Connections(result.audit, result.inputs)
    return _channels(result, table), [_finding(f, table) for f in result.findings]


# ------------------------------------------------------------------------------------------ connections


class _Connections:
    """Text columns of the connection table, each made once per distinct value."""

    def __init__(self, audit: Audit, inputs: InputSummary) -> None:
        self.audit = audit
        self.vantages = [vantage.name for vantage in inputs.vantages] or [""]
        self.said_names: dict[str, list[str]] = {}
        for address, name in inputs.names:
            kept = self.said_names.setdefault(address, [])
            if len(kept) < _MAX_NAMES and name[:_MAX_NAME] not in kept:
                kept.append(name[:_MAX_NAME])
        self.flows = audit.evidence.flows
        self.address = [address_text(a) for a in audit.roles.addresses]
        self.catalogue = channels()
        self.channel = _picked([channel.id for channel in self.catalogue], audit.channels.channel)
        self.client_address = _picked(self.address, audit.roles.client)
        self.server_address = _picked(self.address, audit.roles.server)

    def _labels(self, values: U8, kind: type[Encryption | ClientCertificate | ServerVerification | Grade]) -> list[str]:
        return _picked([kind(i).label for i in range(int(values.max(initial=0)) + 1)], values)

    def _roles(self, ends: I64) -> list[str]:
        # One text for each set of roles that there is, not for each address.
        member = np.stack([self.audit.roles.member[role] for role in ROLES], axis=1)
        bits = member @ (1 << np.arange(len(ROLES), dtype=np.int64))
        sets, which = np.unique(bits, return_inverse=True)
        texts = [
            ", ".join(role for place, role in enumerate(ROLES) if known >> place & 1) or "unknown"
            for known in sets.tolist()
        ]
        return _picked(texts, which[ends]) if texts else []

    def _names(self, ends: I64) -> list[str]:
        names = self.audit.roles.names
        texts = [names.get(row, "") for row in range(len(self.address))]
        for row, address in enumerate(self.address if self.said_names else ()):
            if not texts[row] and (said := self.said_names.get(address, [""])[0]):
                texts[row] = f"{said} {SAID_BY_CAPTURE}"
        return _picked(texts, ends)

    def _times(self, values: I64) -> list[str | None]:
        """`time_text` of a column: numpy prints nanoseconds itself."""
        known = (values > 0) & (values < YEAR_10000_NS)
        texts = np.datetime_as_string(np.where(known, values, 0).astype("datetime64[ns]"), unit="ns", timezone="UTC")
        if known.all():
            return list(texts.tolist())
        return [text if ok else None for text, ok in zip(texts.tolist(), known.tolist(), strict=True)]

    def _handshake(self) -> list[str]:
        evidence = self.audit.evidence
        tls = evidence.tls_row >= 0
        established = evidence.tls_column("established", Ternary.UNKNOWN)
        hello = evidence.tls_column("client_hello_seen") | evidence.tls_column("server_hello_seen")
        code = np.select(
            [~tls, evidence.mid_connection & (hello == 0), established == Ternary.YES, established == Ternary.NO],
            [0, 1, 2, 3],
            4,
        )
        texts = ("", "before the capture", "complete", "not completed", "partly captured")
        return _picked(texts, code)

    def _activity(self) -> tuple[list[str], list[str]]:
        """User agents and first requests of each connection, from readable HTTP and SSH banners."""
        n = len(self.flows)
        agents, activity = [""] * n, [""] * n
        for flow, requests in self.audit.evidence.requests.items():
            agents[flow] = next((r.user_agent for r in requests if r.user_agent), "")
            lines = dict.fromkeys(f"{r.method} {r.forwarded_uri or r.target or _HIDDEN}" for r in requests)
            activity[flow] = "; ".join(list(lines)[:_MAX_ACTIVITY])
        for flow, facts in self.audit.evidence.ssh.items():
            agents[flow] = facts.client_banner
        return agents, activity

    def _ternary(self, name: str) -> list[str]:
        return _picked(_TERNARIES, self.audit.evidence.tls_column(name, Ternary.UNKNOWN))

    def _interactive(self) -> list[bool]:
        """Upgrade dials: a Go client that offers http/1.1 alone to a kubelet runs exec, attach or port-forward."""
        evidence = self.audit.evidence
        offered = evidence.tls_text_in("alpn_offered", frozenset({"http/1.1"}))
        kubelet = np.array([name == "apiserver-to-kubelet" for name in self.channel], bool)
        dials: list[bool] = (kubelet & offered & evidence.client_is_go).tolist()
        return dials

    def _answers(self) -> list[str]:
        """Distinct status codes of each connection, ascending."""
        found = [""] * len(self.flows)
        for flow, responses in self.audit.evidence.responses.items():
            found[flow] = " ".join(map(str, sorted({r.status for r in responses if r.status})))
        return found

    def _credentials(self) -> list[str]:
        """Distinct credentials that the requests of each connection carry, redacted, with the claims of tokens."""
        found = [""] * len(self.flows)
        for flow, requests in self.audit.evidence.requests.items():
            shown = dict.fromkeys(
                r.credential + "".join(f", {name} {value}" for name, value in r.credential_facts)
                for r in requests
                if r.credential
            )
            found[flow] = "; ".join(list(shown)[:_MAX_ACTIVITY])
        return found

    def _ssh(self) -> dict[str, list[str]]:
        """What SSH connections offer and agree on."""
        columns = {name: [""] * len(self.flows) for name in ("hassh", "hassh_server", "ssh_algorithms", "ssh_weak")}
        for flow, facts in self.audit.evidence.ssh.items():
            columns["hassh"][flow], columns["hassh_server"][flow] = facts.hassh, facts.hassh_server
            columns["ssh_algorithms"][flow] = "; ".join(f"{what}: {name}" for what, name in facts.negotiated)
            columns["ssh_weak"][flow] = "; ".join(f"{name}: {why}" for name, why in facts.weak)
        return columns

    def _subjects(self, name: str) -> list[str]:
        reading = self.audit.evidence.tls
        texts = [reading.certificates[c[0]].subject if c else "" for c in reading.chains]
        return _picked([*texts, ""], self.audit.evidence.tls_column(name, -1))

    def _evidence_frames(self) -> list[str]:
        evidence = self.audit.evidence
        names = (
            "client_hello_frame",
            "server_hello_frame",
            "server_certificate_frame",
            "client_flight_frame",
            "client_alert_frame",
            "application_data_frame",
        )
        columns = np.stack([evidence.identification.frame, *(evidence.tls_column(n) for n in names)], axis=1)
        columns.sort(axis=1)
        kept = columns > 0
        kept[:, 1:] &= columns[:, 1:] != columns[:, :-1]
        joined: list[str] = []
        # In parts: the numbers as texts of their own take several times what the joined ones do.
        for begin in range(0, len(kept), _ROWS_A_PART):
            part = slice(begin, begin + _ROWS_A_PART)
            texts = list(map(str, columns[part][kept[part]].tolist()))
            stops = np.cumsum(kept[part].sum(axis=1)).tolist()
            joined += [" ".join(texts[start:stop]) for start, stop in zip([0, *stops], stops, strict=False)]
        return joined

    def _comments(self) -> list[str]:
        said = self.audit.evidence.comments
        comments = [""] * len(self.flows)
        for row, texts in said.items():
            comments[row] = "; ".join(text[:MAX_COMMENT] for text in texts)
        return comments

    def columns(self) -> dict[str, list[Any]]:
        """All columns by name, in the order of the contract."""
        audit, flows, evidence = self.audit, self.flows, self.audit.evidence
        verdicts, roles = audit.verdicts, audit.roles
        versions = _Texts(lambda value: TlsVersion(value).label)
        suite = np.where(
            evidence.tls_column("server_hello_seen"), evidence.tls_column("cipher_suite").astype(np.int64), -1
        )
        agents, activity = self._activity()
        duration = (flows.last_ns - flows.first_ns).tolist()
        columns: dict[str, list[Any]] = {
            "client_ip": self.client_address,
            "client_port": flows.port[:, 0].tolist(),
            "server_ip": self.server_address,
            "server_port": flows.port[:, 1].tolist(),
            "transport": _named({p: _TRANSPORTS.get(p, str(p)) for p in range(256)}, flows.protocol),
            "encapsulation": _picked(evidence.paths, flows.encapsulation),
            "channel": self.channel,
            "protocol": _named(_PROTOCOL_NAMES, evidence.identification.protocol),
            "tls_version": _named(versions, evidence.tls_column("version")),
            "sni": evidence.tls_text("sni"),
            "alpn": evidence.tls_text("alpn"),
            "encryption": self._labels(verdicts.encryption.value, Encryption),
            "encryption_grade": self._labels(verdicts.encryption.grade, Grade),
            "client_certificate": self._labels(verdicts.client_certificate.value, ClientCertificate),
            "client_certificate_grade": self._labels(verdicts.client_certificate.grade, Grade),
            "server_verification": self._labels(verdicts.server_verification.value, ServerVerification),
            "server_verification_grade": self._labels(verdicts.server_verification.grade, Grade),
            "first_frame": flows.first_frame.tolist(),
            "packets": flows.packets.sum(axis=1).tolist(),
            "octets": flows.octets.sum(axis=1).tolist(),
            "client_role": self._roles(roles.client),
            "server_role": self._roles(roles.server),
            "client_name": self._names(roles.client),
            "server_name": self._names(roles.server),
            "channel_grade": self._labels(audit.channels.grade, Grade),
            "channel_reason": _picked(audit.channels.reasons, audit.channels.reason),
            "encryption_reason": _picked(verdicts.encryption.reasons, verdicts.encryption.reason),
            "client_certificate_reason": _picked(
                verdicts.client_certificate.reasons, verdicts.client_certificate.reason
            ),
            "server_verification_reason": _picked(
                verdicts.server_verification.reasons, verdicts.server_verification.reason
            ),
            "initiator": _named(_INITIATORS, flows.initiator),
            "mid_connection": evidence.mid_connection.tolist(),
            "handshake": self._handshake(),
            "cipher_suite": _named(_Texts(lambda value: suite_name(value) if value >= 0 else ""), suite),
            "group": _named(_Texts(lambda g: _GROUPS.get(g, str(g)) if g else ""), evidence.tls_column("group")),
            "alpn_offered": evidence.tls_text("alpn_offered"),
            "client_stack": _picked(_STACKS, evidence.tls_column("client_stack")),
            "ja3": evidence.tls_text("ja3"),
            "ja4": evidence.tls_text("ja4"),
            "ja3s": evidence.tls_text("ja3s"),
            "server_certificate": self._subjects("server_chain"),
            "client_certificate_subject": self._subjects("client_chain"),
            "user_agent": agents,
            "activity": activity,
            "http_statuses": self._answers(),
            "credentials": self._credentials(),
            "tls_version_grade": self._labels(evidence.tls_grade("version_grade"), Grade),
            **self._ssh(),
            "post_quantum": self._ternary("post_quantum"),
            "hello_retry": self._ternary("hello_retry"),
            "early_data_offered": self._ternary("early_data"),
            "renegotiated": self._ternary("renegotiated"),
            "certificate_authorities_named": _named(
                _Texts(lambda number: "" if number < 0 else str(number)), evidence.tls_column("authorities", -1)
            ),
            "server_trusted_by": audit.trust.roles("server"),
            "client_trusted_by": audit.trust.roles("client"),
            "server_name_matches": _picked(_TERNARIES, audit.verdicts.names.matches),
            "interactive": self._interactive(),
            "decryption": evidence.tls_text("decryption"),
            "leg_of": evidence.leg_of.tolist(),
            "carried_by": evidence.carrier.tolist(),
            "client_packets": flows.packets[:, 0].tolist(),
            "client_octets": flows.octets[:, 0].tolist(),
            "server_packets": flows.packets[:, 1].tolist(),
            "server_octets": flows.octets[:, 1].tolist(),
            "first_time": self._times(flows.first_ns),
            "last_time": self._times(flows.last_ns),
            "duration_s": [round(d / 1e9, 6) for d in duration],
            "last_frame": flows.last_frame.tolist(),
            "evidence_frames": self._evidence_frames(),
            "vantage": _picked(self.vantages, flows.vantage),
            "capture": [],
            "last_capture": [],
            "comment": self._comments(),
        }
        return columns


class _Texts(dict[int, str]):
    """Texts of numbers, made when they are asked for."""

    def __init__(self, make: Callable[[int], str]) -> None:
        self._make = make

    def __missing__(self, value: int) -> str:
        text = self[value] = self._make(value)
        return text


def _named(names: Mapping[Any, str], values: NDArray[np.integer[Any]]) -> list[str]:
    """Text of each value; the values are turned to members of their enumeration once each, not once a row."""
    distinct, rows = np.unique(values, return_inverse=True)
    return _picked([names[value] for value in distinct.tolist()], rows)


def _picked(texts: Sequence[str], rows: NDArray[np.integer[Any]]) -> list[str]:
    """The text of each row: an array of the texts themselves is read three times as fast as a list, row by row."""
    if not texts:
        return []
    known = np.empty(len(texts), object)
    known[:] = texts
    picked: list[str] = known.take(rows).tolist()
    return picked


# ---------------------------------------------------------------------------------- channels, findings


def _tally(
    values: U8 | I64, kind: type[Encryption | ClientCertificate | ServerVerification | Grade], weight: I64
) -> dict[str, int]:
    counts = np.bincount(values, weight, minlength=len(kind))
    ordered = [*(k for k in kind if k != 0), kind(0)] if kind is not Grade else list(kind)
    return {member.label: int(counts[member]) for member in ordered}


def _distinct(texts: Sequence[str], rows: I64) -> list[str]:
    return list(dict.fromkeys(texts[i] for i in rows.tolist()))[:_MAX_LISTED]


def _verdict(row: Document, channel: Channel, findings: Sequence[Finding]) -> tuple[str, str]:
    """One word and one sentence for a channel, from its counts and findings; undecidable is never sound."""
    encryption, verification = row["encryption"], row["server_verification"]
    judged = row["connections"] - row["silent"]
    worst = max((f.rule.severity for f in findings), default=Severity.INFO)
    if judged == 0:
        return "undecidable", "No payload was exchanged on this channel."
    if worst >= Severity.MEDIUM:
        titles = sorted({f.rule.title for f in findings if f.rule.severity >= Severity.MEDIUM})
        return "at-risk", "; ".join(titles) + "."
    if channel.expects == "any" or (not channel.core and channel.expects == "cleartext-by-default"):
        return "informational", f"{encryption['encrypted']} of {judged} connections are encrypted."
    if channel.core and encryption["cleartext"]:
        return "at-risk", f"{encryption['cleartext']} of {judged} connections are in cleartext."
    if not channel.core:
        return "informational", f"{encryption['encrypted']} of {judged} connections are encrypted."
    if encryption["encrypted"] < judged:
        return (
            "undecidable",
            f"Whether {judged - encryption['encrypted']} of {judged} connections are encrypted is open.",
        )
    if channel.expects == "encrypted":
        return "sound", f"{_all(judged)} encrypted."
    if verification["verified"] + verification["refused"] < judged:
        open_ones = judged - verification["verified"] - verification["refused"]
        return (
            "undecidable",
            f"{_all(judged)} encrypted; whether the client checks the server is open for {open_ones}.",
        )
    certificates = row["client_certificate"]["presented"]
    return "sound", (
        f"{_all(judged)} encrypted and the server is checked; {certificates} of {judged} present a client certificate."
    )


def _all(count: int) -> str:
    return "The one connection is" if count == 1 else f"All {count} connections are"


def _channels(result: AuditResult, table: _Connections) -> list[Document]:
    rows: list[Document] = []
    audit, findings = result.audit, result.findings
    whole = audit.connections
    counted = _Counted(result)
    present = np.unique(np.concatenate([audit.channels.channel, counted.channel]))
    order = {"at-risk": 0, "undecidable": 1, "sound": 2, "informational": 3}
    for number in present.tolist():
        channel = table.catalogue[number]
        every = np.flatnonzero(audit.channels.channel == number)
        here = every[whole[every]]
        concerning = [f for f in findings if f.channel == channel.id]
        row: Document = {
            "id": channel.id,
            "title": channel.title,
            "direction": channel.direction,
            "client_role": channel.client,
            "server_role": channel.server,
            "expects": channel.expects,
            "default": channel.default,
            "source": channel.source,
            "core": channel.core,
            **counted.of(counted.channel == number),
            "legs": int(every.shape[0] - here.shape[0]),
            "clients": _distinct(table.client_address, here),
            "servers": _distinct(table.server_address, here),
            "findings": sorted({f.rule.code for f in concerning}),
        }
        row["verdict"], row["sentence"] = _verdict(row, channel, concerning)
        rows.append(row)
    rows.sort(key=lambda r: (order[r["verdict"]], not r["core"], r["id"]))
    return rows


def _aged_out(summary: AgedOutSummary, audit: Audit, table: _Connections) -> Document:
    """Connections that left memory by channel and answers; most of them are judged as the one that stands for them."""
    verdicts, departed = audit.verdicts, summary.departed
    rows = np.flatnonzero(audit.connections)
    aged = audit.evidence.aged_out
    stood_for = np.zeros((3, rows.shape[0]), np.int64)
    if aged is not None:
        stood_for = np.stack([aged.connections[rows], aged.packets[rows], aged.octets[rows]])
    keys = np.concatenate(
        [
            np.stack(
                [
                    audit.channels.channel[rows],
                    verdicts.encryption.value[rows],
                    verdicts.client_certificate.value[rows],
                    verdicts.server_verification.value[rows],
                ],
                axis=1,
            ).astype(np.int64),
            np.stack(
                [
                    departed.channel,
                    departed.encryption,
                    departed.client_certificate,
                    departed.server_verification,
                ],
                axis=1,
            ),
        ]
    )
    gone = np.stack([departed.connections, departed.packets, departed.octets])
    counts = np.concatenate([stood_for, gone], axis=1)
    distinct, group = np.unique(keys[counts[0] > 0], axis=0, return_inverse=True)
    connections, packets, octets = (
        np.bincount(group.reshape(-1), count[counts[0] > 0], minlength=distinct.shape[0]).astype(np.int64).tolist()
        for count in counts
    )
    groups = [
        {
            "channel": table.catalogue[channel].id,
            "title": table.catalogue[channel].title,
            "encryption": Encryption(encryption).label,
            "client_certificate": ClientCertificate(certificate).label,
            "server_verification": ServerVerification(verification).label,
            "connections": connections[row],
            "packets": packets[row],
            "octets": octets[row],
        }
        for row, (channel, encryption, certificate, verification) in enumerate(distinct.tolist())
    ]
    return {
        "connections": sum(connections),
        "packets": sum(packets),
        "octets": sum(octets),
        "without_stand_in": int(departed.connections.sum()),
        "early": summary.early,
        "first_time": time_text(summary.first_ns),
        "last_time": time_text(summary.last_ns),
        "groups": sorted(groups, key=lambda g: (-int(g["connections"]), g["channel"], g["encryption"])),
    }


class _Counted:
    """Connections and those that left memory, in rows that are counted with their weight.

    A row is a connection with those it stands for, or some that left without one.
    """

    def __init__(self, result: AuditResult) -> None:
        audit = result.audit
        evidence, verdicts = audit.evidence, audit.verdicts
        here = np.flatnonzero(audit.connections)
        silent = evidence.identification.protocol == Protocol.NO_DATA
        answers = {
            "encryption": (verdicts.encryption.value, verdicts.encryption.grade),
            "client_certificate": (verdicts.client_certificate.value, verdicts.client_certificate.grade),
            "server_verification": (verdicts.server_verification.value, verdicts.server_verification.grade),
        }
        gone = result.aged_out.departed if result.aged_out is not None else None

        def column(present: NDArray[Any], departed: str) -> I64:
            own = present[here].astype(np.int64)
            return own if gone is None else np.concatenate([own, getattr(gone, departed)])

        self.channel = column(audit.channels.channel, "channel")
        self._silent = column(silent, "silent")
        self._weight = column(evidence.weight, "connections")
        self._packets, self._octets = column(evidence.packets, "packets"), column(evidence.octets, "octets")
        self._values = {name: column(value, name) for name, (value, _) in answers.items()}
        self._grades = {name: column(grade, f"{name}_grade") for name, (_, grade) in answers.items()}

    def of(self, rows: Mask) -> Document:
        """Counts of the rows chosen, as channels have them."""
        weight = self._weight[rows]
        return {
            "connections": int(weight.sum()),
            "silent": int(weight[self._silent[rows] != 0].sum()),
            "packets": int(self._packets[rows].sum()),
            "octets": int(self._octets[rows].sum()),
            **{name: _tally(values[rows], _KINDS[name], weight) for name, values in self._values.items()},
            "grades": {name: _tally(grades[rows], Grade, weight) for name, grades in self._grades.items()},
        }


_KINDS: Final[dict[str, type[Encryption | ClientCertificate | ServerVerification]]] = {
    "encryption": Encryption,
    "client_certificate": ClientCertificate,
    "server_verification": ServerVerification,
}


def _hosts(audit: Audit, table: _Connections, rows: I64) -> list[str]:
    """The servers concerned, by name where known; for what a client does wrong, its server still says where."""
    names = audit.roles.names
    servers = dict.fromkeys(audit.roles.server[rows].tolist())
    texts = [f"{table.address[i]} ({names[i]})" if names.get(i) else table.address[i] for i in servers]
    return texts[:_MAX_LISTED]


def _finding(finding: Finding, table: _Connections) -> Document:
    audit, rule = table.audit, finding.rule
    rows = np.array(finding.connections, np.int64)
    count = int(audit.evidence.weight[rows].sum())
    hosts = _hosts(audit, table, rows)
    grades = ", ".join(f"{n} {grade}" for grade, n in finding.grades.items())
    message = (
        f"{rule.seen[0].upper()}{rule.seen[1:]}: {count} connection{'s' if count != 1 else ''} to "
        f"{len(hosts)} host{'s' if len(hosts) != 1 else ''} ({grades})."
    )
    if finding.detail:
        details = "; ".join(finding.detail)
        message += f" {details[0].upper()}{details[1:]}."
    ends = _one_of_each_end(table, rows).tolist()
    keys = sorted({f"{table.server_address[i]}:{audit.evidence.flows.port[i, 1]}" for i in ends})
    digest = hashlib.sha256("\n".join([rule.code, finding.channel, *keys]).encode()).hexdigest()
    return {
        "id": f"{rule.code}/{finding.channel}",
        "code": rule.code,
        "name": rule.name,
        "title": rule.title,
        "severity": rule.severity.label,
        "grade": finding.grade.label,
        "channel": finding.channel,
        "message": message,
        "why": rule.why,
        "remediation": rule.remediation,
        "flags": list(rule.flags),
        "source": rule.source,
        "cis": rule.cis,
        "hosts": hosts,
        "connections": list(finding.connections),
        "frames": list(finding.frames),
        "evidence": [{"capture": 0, "frames": list(finding.frames)}] if finding.frames else [],
        "filter": _display_filter(rule, table, rows, finding.frames),
        "limits": rule.limits,
        "fingerprint": digest[:32],
        "suppression": None if finding.suppression is None else _suppression(finding.suppression),
    }


def _suppression(entry: Suppression) -> Document:
    return {
        "reason": entry.reason,
        "author": entry.author,
        "expires": entry.expires.isoformat(),
        "channel": entry.channel,
        "server": entry.server.text,
        "client": entry.client.text,
        "source": f"{entry.source}, line {entry.line}",
    }


def _suppressions(result: AuditResult) -> Document:
    """Every entry handed over: what it took out of the count, or why it took nothing."""
    given = result.suppressions
    live = set(given.live())
    covered = dict.fromkeys(given.entries, 0)
    for finding in result.findings:
        if finding.suppression is not None:
            covered[finding.suppression] += len(finding.connections)
    return {
        "as_of": given.as_of.isoformat() if given.as_of else None,
        "entries": [
            {
                "code": entry.code,
                **_suppression(entry),
                "status": "expired" if row not in live else "applied" if covered[entry] else "unused",
                "connections": covered[entry],
            }
            for row, entry in enumerate(given.entries)
        ],
    }


def _one_of_each_end(table: _Connections, rows: I64) -> I64:
    """The first of `rows` for each server address, port and transport, in their order."""
    flows = table.flows
    end = table.audit.roles.server[rows] << 24 | flows.port[rows, 1].astype(np.int64) << 8 | flows.protocol[rows]
    _, first = np.unique(end, return_index=True)
    return rows[np.sort(first)]


def _display_filter(rule: Rule, table: _Connections, rows: I64, frames: Sequence[int]) -> str:
    """The rule's filter, narrowed to the first few server endpoints of the finding, and the evidence by number.

    Wireshark shows a message in the frame that completes it, and reads some protocols on their usual ports only: the
    numbers hold what its fields would miss.
    """
    flows = table.flows
    endpoints: dict[str, None] = {}
    for row in _one_of_each_end(table, rows).tolist():
        address = table.server_address[row]
        field_name = "ipv6.addr" if ":" in address else "ip.addr"
        transport = _TRANSPORTS.get(int(flows.protocol[row]), "")
        port = f" && {transport}.port == {flows.port[row, 1]}" if transport in ("tcp", "udp") else ""
        endpoints[f"({field_name} == {address}{port})"] = None
        if len(endpoints) == 4:
            break
    where = " || ".join(endpoints)
    around = f"({where}) && ({rule.filter})" if len(endpoints) > 1 else f"{where} && ({rule.filter})"
    return with_frames(around, frames)


# ------------------------------------------------------------------------------------ everything around


def _endpoints(audit: Audit, table: _Connections) -> list[Document]:
    by_address: dict[int, list[Document]] = {
        row: [] for row, address in enumerate(table.address) if address in table.said_names
    }
    for statement in audit.roles.statements:
        by_address.setdefault(statement.address, []).append(
            {
                "role": statement.role,
                "grade": statement.grade.label,
                "reason": statement.reason,
                "frame": statement.frame,
                "capture": 0,
            }
        )
    names = audit.roles.names
    return [
        {
            "address": table.address[row],
            "names": [names[row]] if names.get(row) else [],
            "capture_names": table.said_names.get(table.address[row], []),
            "roles": roles,
        }
        for row, roles in sorted(by_address.items(), key=lambda item: audit.roles.addresses[item[0]].tobytes())
    ]


def _rule(count: RuleCount) -> Document:
    rule = count.rule
    return {
        "code": rule.code,
        "name": rule.name,
        "title": rule.title,
        "severity": rule.severity.label,
        "channels": list(rule.channels),
        "needs": rule.needs,
        "why": rule.why,
        "remediation": rule.remediation,
        "flags": list(rule.flags),
        "source": rule.source,
        "cis": rule.cis,
        "limits": rule.limits,
        "status": rule.status,
        "counts": {
            "violation": count.violation,
            "compliant": count.compliant,
            "undecidable": count.undecidable,
            "not_observed": count.not_observed,
        },
    }


def _certificates(audit: Audit, table: _Connections) -> list[Document]:
    reading = audit.evidence.tls
    rows: list[Document] = []
    seen: dict[tuple[int, str], list[int]] = {}
    for side in ("server", "client"):
        index = audit.evidence.tls_column(f"{side}_chain", -1)
        for flow in np.flatnonzero(index >= 0).tolist():
            for certificate in reading.chains[int(index[flow])]:
                seen.setdefault((certificate, side), []).append(flow)
    for (number, side), flows in seen.items():
        one = reading.certificates[number]
        rows.append(
            {
                "subject": one.subject or one.problem,
                "issuer": one.issuer,
                "names": [*one.dns_names, *one.ip_addresses],
                "not_before": time_text(one.not_before_ns),
                "not_after": time_text(one.not_after_ns),
                "key": one.key,
                "self_signed": one.self_signed,
                "kubelet_self_made": one.kubelet_self_made,
                "sha256": one.sha256,
                "seen_as": side,
                "channels": sorted({table.channel[flow] for flow in flows}),
                "connections": int(audit.evidence.weight[flows].sum()),
            }
        )
    rows.sort(key=lambda r: (r["not_after"] or "", r["sha256"], r["seen_as"]))
    return rows


def _fingerprints(audit: Audit, table: _Connections) -> list[Document]:
    ja4, ja3 = audit.evidence.tls_text("ja4"), audit.evidence.tls_text("ja3")
    stacks = audit.evidence.tls_column("client_stack").tolist()
    groups_offered = audit.evidence.tls_text("groups_offered")
    groups: dict[tuple[str, str, str], list[int]] = {}
    for row, key in enumerate(zip(ja4, ja3, stacks, strict=True)):
        if key[0] or key[1]:
            groups.setdefault((key[0], key[1], _STACKS[key[2]]), []).append(row)
    return [
        {
            "ja4": key[0],
            "ja3": key[1],
            "stack": key[2],
            **_built_with(key[0], key[2], groups_offered[rows[0]]),
            "connections": int(audit.evidence.weight[rows].sum()),
            "channels": sorted({table.channel[r] for r in rows}),
            "clients": sorted({table.client_address[r] for r in rows})[:_MAX_LISTED],
        }
        for key, rows in sorted(groups.items())
    ]


def _built_with(ja4: str, stack: str, groups: str) -> Document:
    """Go releases that send this hello, and the Kubernetes releases known to be built with them: ranges, inferred."""
    releases = list(go_releases(ja4, groups)) if stack == _STACKS[1] else []
    known = kubernetes_releases()
    return {"go": releases, "kubernetes": [known[release] for release in releases if release in known]}


def _timeline(audit: Audit, table: _Connections, channel_rows: Sequence[Mapping[str, Any]]) -> Document:
    section = timeline(audit, table.channel, [row["id"] for row in channel_rows])
    section["start_time"] = time_text(section.pop("start_ns"))
    for event in section["events"]:
        event["time"] = time_text(event.pop("time_ns"))
    return section


def _konnectivity(audit: Audit, table: _Connections) -> Document:
    """The konnectivity service: agents, nodes without, and what goes through the tunnel or around it."""
    facts = konnectivity_facts(audit.evidence, audit.roles, audit.channels)
    names = audit.roles.names
    return {
        "agents": [
            {
                "address": table.address[agent.address],
                "name": names.get(agent.address, ""),
                "server": table.address[agent.server],
                "port": agent.port,
                "connections": agent.connections,
                "refused": agent.refused,
                "reconnects": agent.reconnects,
                "open_at_end": agent.open_at_end,
                "octets_to_agent": agent.octets_to_agent,
                "octets_from_agent": agent.octets_from_agent,
                "in_use": agent.in_use,
                "carried": agent.carried,
                "first_frame": agent.first_frame,
            }
            for agent in facts.agents[:_MAX_AGENTS]
        ],
        "agent_count": len(facts.agents),
        "nodes_without_agent": [names.get(row) or table.address[row] for row in facts.nodes_without[:_MAX_AGENTS]],
        "through_tunnel": int(facts.through.sum()) if facts.agents else 0,
        "around_tunnel": int(facts.around.sum()) if facts.agents else 0,
    }


def _summary(document: Mapping[str, Any], result: AuditResult) -> Document:
    audit = result.audit
    counted = _Counted(result)
    whole = counted.of(np.ones(counted.channel.shape[0], bool))
    by_verdict = dict.fromkeys(("at-risk", "sound", "undecidable", "informational"), 0)
    for channel in document["channels"]:
        by_verdict[channel["verdict"]] += 1
    by_severity = dict.fromkeys(("critical", "high", "medium", "low", "info"), 0)
    for finding in document["findings"]:
        by_severity[finding["severity"]] += finding["suppression"] is None
    not_judged = [
        f"{channel['title']}: {channel['sentence']}"
        for channel in document["channels"]
        if channel["verdict"] == "undecidable"
    ]
    return {
        "answer": _answer(document, by_verdict, by_severity, audit),
        "channels": by_verdict,
        "findings": by_severity,
        "suppressed": sum(finding["suppression"] is not None for finding in document["findings"]),
        "not_judged": not_judged + list(document["quality"]["notes"]),
        "connections": whole["connections"],
        **whole["encryption"],
    }


def _answer(
    document: Mapping[str, Any], by_verdict: Mapping[str, int], by_severity: Mapping[str, int], audit: Audit
) -> str:
    core = [c for c in document["channels"] if c["core"]]
    if not document["ledger"]["frames"]:
        return "The capture holds no packets."
    if not core:
        known = audit.roles.member[CONTROL_PLANE].any() or (audit.roles.kind() != ServiceKind.OTHER).any()
        hint = "" if known else " Was it taken on a node or control-plane host?"
        return f"No traffic between a control plane and its nodes was recognised in this capture.{hint}"
    parts = []
    risky = [c["title"] for c in core if c["verdict"] == "at-risk"]
    sound = [c["title"] for c in core if c["verdict"] == "sound"]
    unsure = [c["title"] for c in core if c["verdict"] == "undecidable"]
    if risky:
        parts.append(f"At risk: {', '.join(risky)}.")
    if unsure:
        parts.append(f"Not decidable from this capture: {', '.join(unsure)}.")
    if sound:
        parts.append(f"Sound: {', '.join(sound)}.")
    return " ".join(parts)
