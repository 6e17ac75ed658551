"""The five questions a reader brings, answered from the document: what stands on the first screen of every report.

Each answer is one short sentence with a tone, the particulars behind it, and the section that shows them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from analyzer.report.schema_document import (
    GRADES,
    SEVERITIES,
    CertificateEntry,
    Document,
    FindingEntry,
)
from analyzer.report.text import natural

VERDICT_ORDER: Final = ("at-risk", "undecidable", "sound", "informational")
"""Worst first."""
TO_KUBELET: Final = "apiserver-to-kubelet"
_MAX_NAMED: Final = 4
"""Names in one sentence; the section linked to has all."""
_SOON_DAYS: Final = 30
"""A certificate that ends within this many days of the capture is pointed at; kubeadm renews with a year to go."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One question and its answer.

    Attributes
    ----------
    key : str
        Identifier of the question.
    question, answer : str
    tone : str
        ``risk``, ``open``, ``good`` or ``plain``.
    particulars : tuple of str
        What stands behind the answer, the weightiest first.
    section, more : str
        Where all of it is: the anchor, and the text of the link there.
    """

    key: str
    question: str
    answer: str
    tone: str
    particulars: tuple[str, ...]
    section: str
    more: str


def answers(document: Document) -> list[Answer]:
    """Return the five answers, in the order of reading."""
    return [
        _cleartext(document),
        _kubelets(document),
        _certificate(document),
        _first_change(document),
        _not_shown(document),
    ]


def headline(document: Document) -> str:
    """Return the answer in one short sentence: how the channels between control plane and nodes stand."""
    core = [channel for channel in document["channels"] if channel["core"]]
    if not core:
        return document["summary"]["answer"]
    counts = Counter(channel["verdict"] for channel in core)
    of = f"{len(core)} channels" if len(core) > 1 else "one channel"
    if counts["at-risk"]:
        risky = counts["at-risk"]
        if len(core) == 1:
            return "The one channel seen between control plane and nodes is at risk."
        return f"{risky} of {of} between control plane and nodes {'is' if risky == 1 else 'are'} at risk."
    if counts["undecidable"]:
        open_ones = counts["undecidable"]
        which = "It" if len(core) == 1 else f"{open_ones} of {len(core)}"
        return (
            f"Nothing at risk was seen on {of} between control plane and nodes. {which} cannot be decided from this "
            "capture."
        )
    return f"The {of} between control plane and nodes {'are' if len(core) > 1 else 'is'} sound."


def by_severity(document: Document) -> list[FindingEntry]:
    """Return the findings, the most severe first, those that someone accepted behind all others."""
    return sorted(
        document["findings"],
        key=lambda f: (
            f["suppression"] is not None,
            SEVERITIES.index(f["severity"]),
            f["code"],
            f["channel"],
            f["fingerprint"],
        ),
    )


def to_change(document: Document) -> list[FindingEntry]:
    """Return the findings that ask for a change: not those about the capture, nor those that someone accepted."""
    return [f for f in by_severity(document) if f["severity"] != "info" and f["suppression"] is None]


def open_notes(document: Document) -> list[str]:
    """Return what could not be judged and what limits the capture, each once."""
    return list(dict.fromkeys([*document["summary"]["not_judged"], *document["quality"]["notes"]]))


def named(names: Sequence[str], limit: int = _MAX_NAMED) -> str:
    """Return names as they stand in a sentence: ``a, b and 3 more``."""
    if len(names) <= limit + 1:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit:,} more"


def kubelets(document: Document) -> dict[str, Counter[tuple[str, str]]]:
    """Return by node how the API server's connections to its kubelet were answered: (verification, grade) -> count."""
    data = document["connections"]["data"]
    found: dict[str, Counter[tuple[str, str]]] = {}
    for channel, name, address, value, grade, leg in zip(
        *(data[column] for column in ("channel", "server_name", "server_ip")),
        *(data[column] for column in ("server_verification", "server_verification_grade", "leg_of")),
        strict=True,
    ):
        if channel == TO_KUBELET and leg < 0:
            found.setdefault(name or address, Counter())[value, grade] += 1
    return found


def verification_of(counts: Mapping[tuple[str, str], int]) -> tuple[str, str]:
    """Return the worst answer of a kubelet's connections and how it is known: one unverified dial is enough."""
    for value in ("unverified", "undecidable", "refused", "verified"):
        grades = [grade for (answer, grade), count in counts.items() if answer == value and count]
        if grades:
            return value, min(grades, key=GRADES.index)
    return "undecidable", "none"


# ----------------------------------------------------------------------------------------- one by one


def _cleartext(document: Document) -> Answer:
    channels = {channel["id"]: channel for channel in document["channels"]}
    clear = sorted(
        (channel for channel in channels.values() if channel["encryption"]["cleartext"]),
        key=lambda c: (c["verdict"] != "at-risk", not c["core"], -c["encryption"]["cleartext"]),
    )
    summary = document["summary"]
    total, seen, unknown = summary["connections"], summary["cleartext"], summary["undecidable"]
    particulars = tuple(
        f"{channel['title']}: {channel['encryption']['cleartext']:,} of {channel['connections']:,}" for channel in clear
    )
    if seen:
        on_core = [channel["title"] for channel in clear if channel["core"]]
        text = f"Yes: {seen:,} of {total:,} connections" + (
            f", on {named(on_core, 2)}." if on_core else ", none of them between control plane and nodes."
        )
        tone = "risk" if any(channel["verdict"] == "at-risk" for channel in clear) else "plain"
    elif not total:
        text, tone = "No connection was captured.", "open"
    elif unknown:
        text, tone = f"None was seen, but {unknown:,} of {total:,} connections cannot be told.", "open"
    else:
        text, tone = f"No: all {total:,} connections are encrypted.", "good"
    if seen and unknown:
        particulars += (f"{unknown:,} more cannot be told",)
    return Answer(
        "cleartext", "Is anything in cleartext?", text, tone, particulars, "channels", "Channels and their encryption"
    )


def _kubelets(document: Document) -> Answer:
    found = {node: verification_of(counts) for node, counts in kubelets(document).items()}
    groups: dict[str, list[str]] = {}
    for node, (value, _) in sorted(found.items(), key=lambda item: natural(item[0])):
        groups.setdefault(value, []).append(node)
    question = "Which nodes' kubelets are unverified?"
    unverified, unknown = groups.get("unverified", []), groups.get("undecidable", [])
    checked = groups.get("verified", []) + groups.get("refused", [])
    lines = []
    if unverified:
        grades = sorted({found[node][1] for node in unverified}, key=GRADES.index)
        of = f"{len(unverified):,} of {len(found):,}" if len(found) > 1 else "The one seen"
        text, tone = f"{of}: {named(unverified)} ({', '.join(grades)}).", "risk"
    elif not found:
        text, tone = "The API server dialled no kubelet in this capture.", "plain"
    elif unknown:
        text, tone = f"None for certain; open for {named(unknown)}.", "open"
    else:
        count = "the one" if len(found) == 1 else f"all {len(found):,}"
        text, tone = f"None: the API server checks {count} it dialled ({named(checked)}).", "good"
    if unverified and unknown:
        lines.append(f"Open: {named(unknown)}")
    if unverified and checked:
        lines.append(f"Checked: {named(checked)}")
    if unverified:
        others = Counter(
            channel["title"]
            for channel in document["channels"]
            if channel["id"] != TO_KUBELET
            and channel["server_role"] == "kubelet"
            and channel["server_verification"]["unverified"]
            and channel["encryption"]["encrypted"]
        )
        lines += [f"Not checked by others either: {title}" for title in others]
    return Answer("kubelets", question, text, tone, tuple(lines), "nodes", "Every node")


def _first_change(document: Document) -> Answer:
    findings = by_severity(document)
    question = "What do I change first?"
    serious = to_change(document)
    if not serious:
        text, tone = "Nothing: no rule found a violation.", "good"
        if document["summary"]["suppressed"]:
            text = "Nothing that nobody accepted."
        elif findings:
            text, tone = "Nothing in the cluster; capture again so that everything can be judged.", "open"
        return Answer("first", question, text, tone, (), "findings", "Findings")
    worst = serious[0]
    tone = "risk" if worst["severity"] in ("critical", "high") else "open"
    return Answer("first", question, worst["remediation"], tone, (), "findings", f"All {len(findings):,} findings")


def _certificate(document: Document) -> Answer:
    question = "Which certificate expires next?"
    known = [certificate for certificate in document["certificates"] if certificate["not_after"]]
    if not known:
        quality = document["quality"]
        text = "None was readable in this capture."
        lines = []
        if quality["handshake_seen"]:
            lines.append("TLS 1.3 encrypts certificates; a key log would show them.")
        lines.append("On a node: openssl x509 -noout -enddate -in /var/lib/kubelet/pki/kubelet.crt")
        return Answer("certificate", question, text, "open", tuple(lines), "certificates", "Certificates")
    now = capture_end(document)
    dated = sorted(((_days(certificate, now), certificate) for certificate in known), key=lambda pair: pair[0])
    expired = [certificate for days, certificate in dated if days < 0]
    coming = [(days, certificate) for days, certificate in dated if days >= 0]
    lines = []
    if expired:
        subjects = list(dict.fromkeys(_subject(certificate) for certificate in expired))
        lines.append(f"Expired already when captured: {named(subjects, 2)}")
    if coming:
        days, certificate = coming[0]
        text = f"{_subject(certificate)}, {_in_days(days)} ({(certificate['not_after'] or '')[:10]})."
        tone = "open" if days < _SOON_DAYS else "good"
        lines += [f"Then {_subject(later)}, {_in_days(days)}" for days, later in coming[1:3]]
    else:
        text, tone = "All that were readable had expired.", "risk"
    if expired:
        tone = "risk"
    return Answer("certificate", question, text, tone, tuple(lines), "certificates", "All certificates")


def _not_shown(document: Document) -> Answer:
    notes = open_notes(document)
    question = "What could this capture not show?"
    if not notes:
        return Answer(
            "open", question, "Nothing that was in it: every channel was decided.", "good", (), "quality", "Limits"
        )
    text = "One thing:" if len(notes) == 1 else f"{len(notes):,} things:"
    return Answer("open", question, text, "open", tuple(notes), "quality", "All of it, and the limits")


def capture_end(document: Document) -> datetime | None:
    """Return the time of the last frame of all captures: "now" for a report that reads no clock."""
    ends = [capture["last_time"] for capture in document["captures"] if capture["last_time"]]
    return _time(max(ends)) if ends else None


def days_left(certificate: CertificateEntry, now: datetime | None) -> int | None:
    """Return whole days from `now` to the end of a certificate, negative once it has ended."""
    return None if now is None or not certificate["not_after"] else _days(certificate, now)


def _days(certificate: CertificateEntry, now: datetime | None) -> int:
    end = _time(certificate["not_after"] or "")
    return (end - (now or end)).days


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)


def _in_days(days: int) -> str:
    return "in less than a day" if days == 0 else "in one day" if days == 1 else f"in {days:,} days"


def _subject(certificate: CertificateEntry) -> str:
    return certificate["subject"] or f"certificate {certificate['sha256'][:16]}"
