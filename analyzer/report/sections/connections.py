"""The connections of the document: columns, each of as many values as there are connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.cluster.roles import ROLES, address_text
from analyzer.protocols.tls import suite_name
from analyzer.registries import ClientCertificate, Encryption, Grade, ServerVerification, Ternary, TlsVersion
from analyzer.report.audit_result import InputSummary
from analyzer.report.sections.inputs import MAX_COMMENT
from analyzer.report.sections.labels import GROUPS, INITIATORS, PROTOCOLS, STACKS, TERNARIES, TRANSPORTS
from analyzer.report.sections.texts import Texts, joined_numbers, named, picked, seconds, time_texts
from analyzer.rules import Audit
from analyzer.schema import I64, U8, HttpMessage

_MAX_ACTIVITY: Final = 5
_HIDDEN: Final = "(path sent before the capture)"
_MAX_NAMES: Final = 3
"""Names that a capture gives one address, listed of it."""
_MAX_NAME: Final = 253  # RFC 1035 2.3.4
SAID_BY_CAPTURE: Final = "(named by the capture)"
"""Stands behind a name that whoever wrote the capture chose: it decides nothing."""
_ROWS_A_PART: Final = 1 << 14
MAX_LISTED: Final = 50
"""Addresses listed by name in one channel or finding."""


def first_distinct(rows: I64, size: int) -> I64:
    """Each of `rows`, which are below `size`, once, in the order they come in."""
    first = np.full(size, rows.shape[0], np.int64)
    first[rows[::-1]] = np.arange(rows.shape[0])[::-1]  # of several to one place the last is kept
    return rows.take(np.sort(first[first < rows.shape[0]]))


class ConnectionTable:
    """The table of connections, and what other sections take from it.

    Texts are made once for each distinct value.
    """

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
        self.channel = picked([channel.id for channel in self.catalogue], audit.channels.channel)
        self.client_address = picked(self.address, audit.roles.client)
        self.server_address = picked(self.address, audit.roles.server)

    @cached_property
    def services(self) -> tuple[list[str], I64]:
        """``address:port`` of every service, sorted, and the place there of each (a row of `Roles.service_port`)."""
        roles = self.audit.roles
        ends = zip(roles.service_address.tolist(), roles.service_port.tolist(), strict=True)
        texts = [f"{self.address[row]}:{port}" for row, port in ends]
        order = sorted(range(len(texts)), key=texts.__getitem__)
        return [texts[row] for row in order], np.argsort(order)

    def addresses_of(self, ends: I64) -> list[str]:
        """The first distinct of some addresses (rows of `Roles.addresses`), at most `MAX_LISTED`."""
        return [self.address[row] for row in first_distinct(ends, len(self.address))[:MAX_LISTED].tolist()]

    def _labels(self, values: U8, kind: type[Encryption | ClientCertificate | ServerVerification | Grade]) -> list[str]:
        return picked([kind(i).label for i in range(int(values.max(initial=0)) + 1)], values)

    def _roles(self, ends: I64) -> list[str]:
        # One text for each set of roles that there is, not for each address.
        member = np.stack([self.audit.roles.member[role] for role in ROLES], axis=1)
        bits = member @ (1 << np.arange(len(ROLES), dtype=np.int64))
        sets, which = np.unique(bits, return_inverse=True)
        texts = [
            ", ".join(role for place, role in enumerate(ROLES) if known >> place & 1) or "unknown"
            for known in sets.tolist()
        ]
        return picked(texts, which[ends]) if texts else []

    def _names(self, ends: I64) -> list[str]:
        names = self.audit.roles.names
        texts = [names.get(row, "") for row in range(len(self.address))]
        for row, address in enumerate(self.address if self.said_names else ()):
            if not texts[row] and (said := self.said_names.get(address, [""])[0]):
                texts[row] = f"{said} {SAID_BY_CAPTURE}"
        return picked(texts, ends)

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
        return picked(texts, code)

    def _said(self, messages: I64, *tell: Callable[[Sequence[HttpMessage]], str]) -> list[list[str]]:
        """Columns of what `tell` says of those of each connection's messages; empty where it has none."""
        sequences, flows, sequence = self.audit.evidence.http.sequences(messages)
        row = np.full(len(self.flows), -1, np.int64)
        row[flows] = sequence
        return [picked([*map(one, sequences), ""], row) for one in tell]

    def _requests(self) -> tuple[list[str], list[str], list[str]]:
        """User agents, first requests and credentials of each connection, from readable HTTP and SSH banners."""
        agents, activity, credentials = self._said(
            self.audit.evidence.http.requests(), _user_agent, _activity, _credentials
        )
        for flow, facts in self.audit.evidence.ssh.items():
            agents[flow] = facts.client_banner
        return agents, activity, credentials

    def _ternary(self, name: str) -> list[str]:
        return picked(TERNARIES, self.audit.evidence.tls_column(name, Ternary.UNKNOWN))

    def _interactive(self) -> list[bool]:
        """Upgrade dials: a Go client that offers http/1.1 alone to a kubelet runs exec, attach or port-forward."""
        evidence = self.audit.evidence
        offered = evidence.tls_text_in("alpn_offered", frozenset({"http/1.1"}))
        kubelet = np.array([name == "apiserver-to-kubelet" for name in self.channel], bool)
        dials: list[bool] = (kubelet & offered & evidence.client_is_go).tolist()
        return dials

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
        return picked([*texts, ""], self.audit.evidence.tls_column(name, -1))

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
        # In parts: the digits take several times what the joined texts do.
        for begin in range(0, len(kept), _ROWS_A_PART):
            part = slice(begin, begin + _ROWS_A_PART)
            joined += joined_numbers(columns[part][kept[part]], np.count_nonzero(kept[part], axis=1))
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
        versions = Texts(lambda value: TlsVersion(value).label)
        suite = np.where(
            evidence.tls_column("server_hello_seen"), evidence.tls_column("cipher_suite").astype(np.int64), -1
        )
        agents, activity, credentials = self._requests()
        [statuses] = self._said(evidence.http.responses(), _statuses)
        columns: dict[str, list[Any]] = {
            "client_ip": self.client_address,
            "client_port": flows.port[:, 0].tolist(),
            "server_ip": self.server_address,
            "server_port": flows.port[:, 1].tolist(),
            "transport": named({p: TRANSPORTS.get(p, str(p)) for p in range(256)}, flows.protocol),
            "encapsulation": picked(evidence.paths, flows.encapsulation),
            "channel": self.channel,
            "protocol": named(PROTOCOLS, evidence.identification.protocol),
            "tls_version": named(versions, evidence.tls_column("version")),
            "sni": evidence.tls_text("sni"),
            "alpn": evidence.tls_text("alpn"),
            "encryption": self._labels(verdicts.encryption.value, Encryption),
            "encryption_grade": self._labels(verdicts.encryption.grade, Grade),
            "client_certificate": self._labels(verdicts.client_certificate.value, ClientCertificate),
            "client_certificate_grade": self._labels(verdicts.client_certificate.grade, Grade),
            "server_verification": self._labels(verdicts.server_verification.value, ServerVerification),
            "server_verification_grade": self._labels(verdicts.server_verification.grade, Grade),
            "first_frame": flows.first_frame.tolist(),
            "packets": (flows.packets[:, 0] + flows.packets[:, 1]).tolist(),
            "octets": (flows.octets[:, 0] + flows.octets[:, 1]).tolist(),
            "client_role": self._roles(roles.client),
            "server_role": self._roles(roles.server),
            "client_name": self._names(roles.client),
            "server_name": self._names(roles.server),
            "channel_grade": self._labels(audit.channels.grade, Grade),
            "channel_reason": picked(audit.channels.reasons, audit.channels.reason),
            "encryption_reason": picked(verdicts.encryption.reasons, verdicts.encryption.reason),
            "client_certificate_reason": picked(
                verdicts.client_certificate.reasons, verdicts.client_certificate.reason
            ),
            "server_verification_reason": picked(
                verdicts.server_verification.reasons, verdicts.server_verification.reason
            ),
            "initiator": named(INITIATORS, flows.initiator),
            "mid_connection": evidence.mid_connection.tolist(),
            "handshake": self._handshake(),
            "cipher_suite": named(Texts(lambda value: suite_name(value) if value >= 0 else ""), suite),
            "group": named(Texts(lambda g: GROUPS.get(g, str(g)) if g else ""), evidence.tls_column("group")),
            "alpn_offered": evidence.tls_text("alpn_offered"),
            "client_stack": picked(STACKS, evidence.tls_column("client_stack")),
            "ja3": evidence.tls_text("ja3"),
            "ja4": evidence.tls_text("ja4"),
            "ja3s": evidence.tls_text("ja3s"),
            "server_certificate": self._subjects("server_chain"),
            "client_certificate_subject": self._subjects("client_chain"),
            "user_agent": agents,
            "activity": activity,
            "http_statuses": statuses,
            "credentials": credentials,
            "tls_version_grade": self._labels(evidence.tls_grade("version_grade"), Grade),
            **self._ssh(),
            "post_quantum": self._ternary("post_quantum"),
            "hello_retry": self._ternary("hello_retry"),
            "early_data_offered": self._ternary("early_data"),
            "renegotiated": self._ternary("renegotiated"),
            "certificate_authorities_named": named(
                Texts(lambda number: "" if number < 0 else str(number)), evidence.tls_column("authorities", -1)
            ),
            "server_trusted_by": audit.trust.roles("server"),
            "client_trusted_by": audit.trust.roles("client"),
            "server_name_matches": picked(TERNARIES, audit.verdicts.names.matches),
            "interactive": self._interactive(),
            "decryption": evidence.tls_text("decryption"),
            "leg_of": evidence.leg_of.tolist(),
            "carried_by": evidence.carrier.tolist(),
            "client_packets": flows.packets[:, 0].tolist(),
            "client_octets": flows.octets[:, 0].tolist(),
            "server_packets": flows.packets[:, 1].tolist(),
            "server_octets": flows.octets[:, 1].tolist(),
            "first_time": time_texts(flows.first_ns),
            "last_time": time_texts(flows.last_ns),
            "duration_s": seconds(flows.last_ns - flows.first_ns),
            "last_frame": flows.last_frame.tolist(),
            "evidence_frames": self._evidence_frames(),
            "vantage": picked(self.vantages, flows.vantage),
            "capture": [],
            "last_capture": [],
            "comment": self._comments(),
        }
        return columns


def _user_agent(requests: Sequence[HttpMessage]) -> str:
    return next((r.user_agent for r in requests if r.user_agent), "")


def _activity(requests: Sequence[HttpMessage]) -> str:
    lines = dict.fromkeys(f"{r.method} {r.forwarded_uri or r.target or _HIDDEN}" for r in requests)
    return "; ".join(list(lines)[:_MAX_ACTIVITY])


def _credentials(requests: Sequence[HttpMessage]) -> str:
    """Distinct credentials, redacted, with the claims of tokens."""
    shown = dict.fromkeys(
        r.credential + "".join(f", {name} {value}" for name, value in r.credential_facts)
        for r in requests
        if r.credential
    )
    return "; ".join(list(shown)[:_MAX_ACTIVITY])


def _statuses(responses: Sequence[HttpMessage]) -> str:
    """Distinct status codes, ascending."""
    return " ".join(map(str, sorted({r.status for r in responses if r.status})))
