"""The lines of ``planewire live --format jsonl``: one JSON object each, by its ``type``.

As with the report, the shape is declared once, here; ``analyzer/data/live.schema.json`` is derived from it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypedDict

from analyzer.report.schema_document import (
    ChannelVerdict,
    ClientCertificateLabel,
    Count,
    EncryptionLabel,
    GradeLabel,
    Keywords,
    ServerVerificationLabel,
    SeverityLabel,
    Time,
    Tool,
    published,
    schema_of,
    schema_text,
)

LIVE_SCHEMA_VERSION: Final = "1"
"""Moves when a field changes its meaning or goes; new fields and new types of lines do not move it."""

EndedBy = Literal["end of input", "interrupt", "termination", "duration", "packets", "quit", "error"]
_Told = Annotated[str, Keywords("When it was noticed: RFC 3339, UTC, nanoseconds.")]


class EncryptionAnswer(TypedDict):
    """What most connections of a channel answer, and how many of all do."""

    value: EncryptionLabel
    grade: GradeLabel
    connections: Count
    of: Count


class ClientCertificateAnswer(TypedDict):
    """What most connections of a channel answer, and how many of all do."""

    value: ClientCertificateLabel
    grade: GradeLabel
    connections: Count
    of: Count


class ServerVerificationAnswer(TypedDict):
    """What most connections of a channel answer, and how many of all do."""

    value: ServerVerificationLabel
    grade: GradeLabel
    connections: Count
    of: Count


class StartLine(TypedDict):
    """The first line: what is read, and by what means."""

    type: Literal["start"]
    time: _Told
    schema_version: str
    tool: Tool
    input: str
    how: str


class ChannelLine(TypedDict):
    """A channel appeared, or its verdict, a commonest answer or the grade of one changed."""

    type: Literal["channel"]
    time: _Told
    channel: str
    title: str
    core: Annotated[bool, Keywords("One of the channels between control plane and nodes.")]
    verdict: ChannelVerdict
    previous: Annotated[ChannelVerdict | None, Keywords("Verdict before; null where the channel is new.")]
    sentence: str
    encryption: EncryptionAnswer
    client_certificate: ClientCertificateAnswer
    server_verification: ServerVerificationAnswer
    connections: Count
    open: Count
    packets: Count
    octets: Count


class FindingLine(TypedDict):
    """A finding appeared, changed its severity, grade or suppression, or no longer holds."""

    type: Literal["finding"]
    time: _Told
    change: Literal["new", "changed", "gone"]
    id: Annotated[str, Keywords("The same for as long as the finding holds.")]
    code: Annotated[str, Keywords(pattern="^PW[0-9]{3}$")]
    name: str
    title: str
    severity: SeverityLabel
    grade: GradeLabel
    channel: str
    connections: Count
    message: str
    hosts: list[str]
    frames: Annotated[list[int], Keywords("Some that show it, numbered since the start.")]
    filter: Annotated[str, Keywords("Wireshark display filter that shows the evidence.")]
    first_seen: Time | None
    suppressed: Annotated[str, Keywords("Why it does not count, where somebody accepted it; else empty.")]


class DropsLine(TypedDict):
    """The kernel dropped packets; told at most once in ten seconds."""

    type: Literal["drops"]
    time: _Told
    dropped: Annotated[int, Keywords("Since the start.", minimum=0)]
    more: Annotated[int, Keywords("Since the line before.", minimum=0)]
    packets: Annotated[int, Keywords("Taken since the start.", minimum=0)]


class NoteLine(TypedDict):
    """Something that went wrong and did not end the run, or did."""

    type: Literal["note"]
    time: _Told
    text: str


class ChannelSum(TypedDict):
    """One channel at the end."""

    channel: str
    verdict: ChannelVerdict
    connections: Count
    octets: Count


class SeveritySums(TypedDict):
    """Findings that nobody accepted, by severity."""

    critical: Count
    high: Count
    medium: Count
    low: Count
    info: Count


class SummaryLine(TypedDict):
    """The last line."""

    type: Literal["summary"]
    time: _Told
    ended_by: EndedBy
    duration_s: float
    packets: Count
    octets: Count
    dropped: Annotated[Count | None, Keywords("Null where whoever captured does not tell.")]
    connections: Count
    aged_out: Count
    channels: list[ChannelSum]
    findings: SeveritySums
    exit_status: Count


LiveLine = StartLine | ChannelLine | FindingLine | DropsLine | NoteLine | SummaryLine


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of one line."""
    definitions: dict[str, Any] = {}
    root = schema_of(LiveLine, definitions)
    return published("planewire live, one line", "One line of planewire live --format jsonl.", root, definitions)


def json_schema_text() -> str:
    """Return the text of ``analyzer/data/live.schema.json``."""
    return schema_text(json_schema())
