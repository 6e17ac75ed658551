"""The document: what one audit says, as plain dictionaries. All outputs render it; JSON is the thing itself.

The shape is declared once, here, as typed dictionaries; ``analyzer/data/report.schema.json`` is derived from them by
`json_schema` and compared by a test, so that the type checker, the published schema and the outputs cannot drift apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    TypedDict,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

SCHEMA_VERSION: Final = "1"
"""Moves when a field changes its meaning or goes; new fields do not move it."""

EncryptionLabel = Literal["encrypted", "cleartext", "undecidable"]
ClientCertificateLabel = Literal["presented", "absent", "undecidable"]
ServerVerificationLabel = Literal["verified", "unverified", "refused", "undecidable"]
GradeLabel = Literal["observed", "inferred", "declared", "default", "none"]
ChannelVerdict = Literal["at-risk", "sound", "undecidable", "informational"]
SeverityLabel = Literal["critical", "high", "medium", "low", "info"]

GRADES: Final[tuple[GradeLabel, ...]] = get_args(GradeLabel)
CHANNEL_VERDICTS: Final[tuple[ChannelVerdict, ...]] = get_args(ChannelVerdict)
SEVERITIES: Final[tuple[SeverityLabel, ...]] = get_args(SeverityLabel)
QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "encryption": get_args(EncryptionLabel),
    "client_certificate": get_args(ClientCertificateLabel),
    "server_verification": get_args(ServerVerificationLabel),
}
"""The three questions, each with its values: what is wanted first, what is not known last."""


@dataclass(frozen=True, slots=True)
class Keywords:
    """JSON schema keywords that a Python type alone does not carry."""

    description: str | None = None
    minimum: int | None = None
    pattern: str | None = None


Count = Annotated[int, Keywords(minimum=0)]
Frame = Annotated[int, Keywords("Frame number from 1 in its file, as Wireshark counts; 0 = none.", minimum=0)]
Time = Annotated[str, Keywords("RFC 3339, UTC, nanoseconds.")]
CaptureRow = Annotated[int, Keywords("Row of `captures`: the file whose frames are counted.", minimum=0)]
ConnectionRow = Annotated[int, Keywords("Row of the connections table.", minimum=0)]


class Tool(TypedDict):
    """The program that wrote the document."""

    name: str
    version: str


class InterfaceEntry(TypedDict):
    """One capture interface."""

    name: str
    description: str
    hardware: str
    system: Annotated[str, Keywords("Operating system of the capturing host, as the capture says.")]
    filter: Annotated[str, Keywords("Capture filter, as the capture says: traffic it kept out is not judged.")]
    link_type: str | int
    snaplen: Annotated[int, Keywords("Octets; 0 = not limited.", minimum=0)]
    received: int | None
    dropped: int | None


class DamageEntry(TypedDict):
    """A place where an input stops making sense."""

    offset: Count
    reason: str


class CommentEntry(TypedDict):
    """What a capture says of itself or of one frame: untrusted text."""

    number: Annotated[int, Keywords("Frame in this capture; 0 = the capture or an interface of it.", minimum=0)]
    text: str


class CaptureLedger(TypedDict):
    """Where the frames of one capture went; sums as in `Ledger`."""

    decoded: Count
    not_decoded: dict[str, int]
    inner_packets: Count
    packets_in_flows: Count
    packets_outside_flows: dict[str, int]
    balanced: bool


class CaptureEntry(TypedDict):
    """One input."""

    name: str
    format: str
    octets: Count
    frames: Count
    first_time: Time | None
    last_time: Time | None
    duration_s: float
    interfaces: list[InterfaceEntry]
    vantage: Annotated[str, Keywords("Name of its vantage point; empty where there is one only.")]
    comment_count: Count
    comments: Annotated[list[CommentEntry], Keywords("The first ones.")]
    ledger: CaptureLedger | None
    damage: list[DamageEntry]


class VantagePointEntry(TypedDict):
    """A place packets were recorded at."""

    name: str
    captures: Annotated[list[int], Keywords("Rows of `captures`, in order of time.")]
    given: Annotated[bool, Keywords("Named by the user.")]
    assumed: Annotated[str, Keywords("Why these captures were taken as one vantage point.")]
    flows: Count
    connections: Count
    seen_elsewhere: Annotated[int, Keywords("Flows of connections that another vantage point saw too.", minimum=0)]


class ClockSkewEntry(TypedDict):
    """How two vantage points' clocks differ, by the handshakes both saw."""

    one: str
    other: str
    offset_ns: Annotated[int | None, Keywords("How far `other` is ahead of `one`: median; null = not known.")]
    spread_ns: Annotated[int | None, Keywords("Half the range of the middle nine tenths.")]
    delay_ns: Annotated[int | None, Keywords("Time on the way between them: median.")]
    handshakes: Count
    connections: Annotated[int, Keywords("Connections that both saw.", minimum=0)]


class SkippedEntry(TypedDict):
    """A file that was found and not analysed."""

    name: str
    reason: str
    named: Annotated[bool, Keywords("The user named this very file.")]


class SkippedEntries(TypedDict):
    """Files that were found and not analysed."""

    count: Count
    files: Annotated[list[SkippedEntry], Keywords("The first 1000.")]


class DeclaredEntry(TypedDict):
    """One setting that the configuration handed over declares."""

    component: str
    setting: str
    value: str
    source: str


class ClusterEntry(TypedDict):
    """What was handed over about the cluster."""

    given: bool
    sources: list[str]
    nodes: Count
    pods: Count
    services: Count
    declared: list[DeclaredEntry]
    notes: list[str]


class UndecidableCounts(TypedDict):
    """Connections whose answer is undecidable, by question."""

    encryption: Count
    client_certificate: Count
    server_verification: Count


class ShareEntry(TypedDict):
    """TCP connections with payload, by what was captured of them."""

    name: str
    connections: Count
    packets: Count
    octets: Count
    undecidable: UndecidableCounts
    meaning: Annotated[str, Keywords("What that means for the verdicts.")]


class Quality(TypedDict):
    """What this capture can and cannot show."""

    notes: list[str]
    connections: Count
    handshake_seen: Count
    mid_connection: Count
    one_sided: Count
    cut_by_snaplen: Count
    with_gaps: Count
    dropped: int | None
    shares: Annotated[list[ShareEntry], Keywords("`connections`, which are all, and those subsets that are not empty.")]


class LeftOutEntry(TypedDict):
    """What came past the limit of flows and was counted, not kept."""

    flows: Annotated[int, Keywords("About how many.", minimum=0)]
    packets: Count
    octets: Count
    limit: Annotated[int, Keywords("Flows kept of one recording; of many, the least of any.", minimum=0)]


class Ledger(TypedDict):
    """Where every captured frame went."""

    frames: Count
    decoded: Count
    not_decoded: dict[str, int]
    inner_packets: Count
    packets_in_flows: Count
    packets_outside_flows: dict[str, int]
    duplicates: Count
    flows: Count
    legs: Count
    left_out: LeftOutEntry
    balanced: bool
    lines: Annotated[list[list[str | int]], Keywords("Pairs of a label and a number.")]


class RoleEntry(TypedDict):
    """One role of an endpoint, and how it is known."""

    role: str
    grade: GradeLabel
    reason: str
    frame: Frame
    capture: CaptureRow


class EndpointEntry(TypedDict):
    """One address."""

    address: str
    names: list[str]
    capture_names: Annotated[list[str], Keywords("Names that the captures give it: untrusted, decide nothing.")]
    roles: list[RoleEntry]


class Connections(TypedDict):
    """One row a connection, as columns of equal length."""

    columns: list[str]
    data: dict[str, list[Any]]


class EncryptionCounts(TypedDict):
    """Connections by the answer to: can a reader of the wire read the payload?"""

    encrypted: Count
    cleartext: Count
    undecidable: Count


class ClientCertificateCounts(TypedDict):
    """Connections by the answer to: did the client present a certificate?"""

    presented: Count
    absent: Count
    undecidable: Count


class ServerVerificationCounts(TypedDict):
    """Connections by the answer to: did the client check who the server is?"""

    verified: Count
    unverified: Count
    refused: Count
    undecidable: Count


class GradeCounts(TypedDict):
    """Connections by how the answer is known."""

    observed: Count
    inferred: Count
    declared: Count
    default: Count
    none: Count


class ChannelGrades(TypedDict):
    """Grades behind the three answers of a channel."""

    encryption: GradeCounts
    client_certificate: GradeCounts
    server_verification: GradeCounts


class ChannelEntry(TypedDict):
    """One channel of the catalogue that the capture holds."""

    id: str
    title: str
    direction: str
    client_role: str
    server_role: str
    expects: str
    default: Annotated[str, Keywords("What Kubernetes does when nobody configures anything.")]
    source: str
    core: Annotated[bool, Keywords("One of the channels between control plane and nodes.")]
    connections: Count
    silent: Annotated[int, Keywords("Connections that exchanged no payload.", minimum=0)]
    legs: Annotated[int, Keywords("Second sightings of counted connections, after DNAT.", minimum=0)]
    packets: Count
    octets: Count
    encryption: EncryptionCounts
    client_certificate: ClientCertificateCounts
    server_verification: ServerVerificationCounts
    grades: ChannelGrades
    verdict: ChannelVerdict
    sentence: str
    clients: list[str]
    servers: list[str]
    findings: list[str]


class EvidenceEntry(TypedDict):
    """Frames of one capture."""

    capture: CaptureRow
    frames: list[Frame]


class SuppressionEntry(TypedDict):
    """Who accepted a finding, why, and until when; it does not count for the exit status."""

    reason: str
    author: str
    expires: Annotated[str, Keywords("Last day it counts, ISO 8601.")]
    channel: Annotated[str, Keywords("Scope; empty = any channel.")]
    server: Annotated[str, Keywords("Scope; empty = any server.")]
    client: Annotated[str, Keywords("Scope; empty = any client.")]
    source: Annotated[str, Keywords("File and line.")]


class ListedSuppression(SuppressionEntry):
    """One entry of the suppression file, and what became of it."""

    code: Annotated[str, Keywords(pattern="^PW[0-9]{3}$")]
    status: Literal["applied", "unused", "expired"]
    connections: Count


class Suppressions(TypedDict):
    """The suppression file, as judged on one day."""

    as_of: Annotated[str, Keywords("Day on which expiry was judged, ISO 8601; null without a file.")] | None
    entries: list[ListedSuppression]


class FindingEntry(TypedDict):
    """One finding."""

    id: Annotated[str, Keywords("CODE/channel: what planewire inspect and planewire evidence take.")]
    code: Annotated[str, Keywords(pattern="^PW[0-9]{3}$")]
    name: str
    title: str
    severity: SeverityLabel
    grade: GradeLabel
    channel: str
    message: str
    why: str
    remediation: str
    flags: list[str]
    source: str
    cis: str
    hosts: list[str]
    connections: list[ConnectionRow]
    frames: list[Frame]
    evidence: Annotated[list[EvidenceEntry], Keywords("The same frames by capture.")]
    filter: Annotated[str, Keywords("Wireshark display filter that shows the evidence.")]
    limits: str
    fingerprint: str
    suppression: SuppressionEntry | None


class RuleCounts(TypedDict):
    """Connections by what a rule says of them."""

    violation: Count
    compliant: Count
    undecidable: Count
    not_observed: Count


class RuleEntry(TypedDict):
    """One rule, with or without findings."""

    code: Annotated[str, Keywords(pattern="^PW[0-9]{3}$")]
    name: str
    title: str
    severity: SeverityLabel
    channels: list[str]
    needs: str
    why: str
    remediation: str
    flags: list[str]
    source: str
    cis: str
    limits: str
    status: str
    counts: RuleCounts


class CertificateEntry(TypedDict):
    """One distinct certificate seen in clear."""

    subject: str
    issuer: str
    names: list[str]
    not_before: Time | None
    not_after: Time | None
    key: str
    self_signed: bool
    kubelet_self_made: bool
    sha256: str
    seen_as: Literal["server", "client"]
    channels: list[str]
    connections: Count


class FingerprintEntry(TypedDict):
    """One distinct TLS client fingerprint."""

    ja4: str
    ja3: str
    stack: str
    go: Annotated[list[str], Keywords("Go releases whose default ClientHello this is; inferred.")]
    kubernetes: Annotated[list[str], Keywords("Kubernetes releases known to be built with them, as ranges; inferred.")]
    connections: Count
    channels: list[str]
    clients: list[str]


class KonnectivityAgentEntry(TypedDict):
    """Connections of one host's konnectivity agent to one server."""

    address: str
    name: str
    server: str
    port: Annotated[int, Keywords("Where the server listens for agents.", minimum=0)]
    connections: Count
    refused: Annotated[int, Keywords("Attempts that were reset or not answered.", minimum=0)]
    reconnects: Annotated[int, Keywords("Openings after an earlier connection had ended.", minimum=0)]
    open_at_end: Count
    octets_to_agent: Annotated[int, Keywords("Payload.", minimum=0)]
    octets_from_agent: Annotated[int, Keywords("Payload.", minimum=0)]
    in_use: Annotated[bool, Keywords("More than opening and keep-alives.")]
    carried: Annotated[int, Keywords("Connections found inside; rows with `carried_by`.", minimum=0)]
    first_frame: Count


class KonnectivityEntry(TypedDict):
    """What the capture shows of the konnectivity service; empty where no agent was seen."""

    agents: list[KonnectivityAgentEntry]
    agent_count: Count
    nodes_without_agent: Annotated[
        list[str], Keywords("Known nodes of which no agent was seen; at a node's own interface that says little.")
    ]
    through_tunnel: Annotated[int, Keywords("Control plane to node, through the tunnel.", minimum=0)]
    around_tunnel: Annotated[int, Keywords("Control plane to node, opened by the control plane itself.", minimum=0)]


class ChannelTraffic(TypedDict):
    """Traffic of one channel, bin by bin; second legs left out."""

    id: str
    packets: list[Count]
    octets: list[Count]


class EventEntry(TypedDict):
    """One thing that happened, and the frame that shows it."""

    kind: Literal["credential", "session", "refusal", "cleartext-request", "handshake"]
    time: Time | None
    frame: Frame
    capture: CaptureRow
    connection: ConnectionRow
    channel: str
    text: str


class Timeline(TypedDict):
    """Traffic and events over time, in equal bins."""

    start_time: Annotated[Time | None, Keywords("Begin of the first bin.")]
    bin_ns: Annotated[int, Keywords("Nanoseconds of one bin: a power of two.", minimum=1)]
    bins: Annotated[int, Keywords("Bins, 120 at most.", minimum=0)]
    frame_stride: Annotated[
        int, Keywords("1: times of events are exact; n: each is that of at most n - 1 frames earlier.", minimum=1)
    ]
    channels: list[ChannelTraffic]
    event_counts: Annotated[dict[str, int], Keywords("All events by kind; `events` lists the first of each.")]
    event_bins: Annotated[dict[str, list[int]], Keywords("All events by kind and bin.")]
    events: list[EventEntry]


ChannelVerdictCounts = TypedDict(
    "ChannelVerdictCounts", {"at-risk": Count, "sound": Count, "undecidable": Count, "informational": Count}
)


class SeverityCounts(TypedDict):
    """Findings by severity."""

    critical: Count
    high: Count
    medium: Count
    low: Count
    info: Count


class Summary(TypedDict):
    """The answer."""

    answer: str
    channels: ChannelVerdictCounts
    findings: Annotated[SeverityCounts, Keywords("Without the suppressed ones.")]
    suppressed: Annotated[int, Keywords("Findings that are suppressed.", minimum=0)]
    not_judged: list[str]
    connections: Count
    encrypted: Count
    cleartext: Count
    undecidable: Count


class Outcome(TypedDict):
    """What the process ended with."""

    fail_on: Literal["info", "low", "medium", "high", "critical", "never"]
    exit_status: Literal[0, 1, 4]


class AgedOutGroup(TypedDict):
    """Connections of one channel with the same answers that left memory."""

    channel: str
    title: str
    encryption: EncryptionLabel
    client_certificate: ClientCertificateLabel
    server_verification: ServerVerificationLabel
    connections: Count
    packets: Count
    octets: Count


class AgedOut(TypedDict):
    """What a live session no longer holds connection by connection. All counts of the document include it."""

    connections: Count
    packets: Count
    octets: Count
    without_stand_in: Annotated[
        int, Keywords("Of these, those of which no connection like them is in the table.", minimum=0)
    ]
    early: Annotated[
        int, Keywords("Of these, those that left before they were over: more were open than are held.", minimum=0)
    ]
    first_time: Time | None
    last_time: Time | None
    groups: list[AgedOutGroup]


class Document(TypedDict):
    """One audit."""

    schema_version: Literal["1"]
    tool: Tool
    captures: list[CaptureEntry]
    vantage_points: list[VantagePointEntry]
    clock_skews: list[ClockSkewEntry]
    skipped: SkippedEntries
    cluster: ClusterEntry
    quality: Quality
    ledger: Ledger
    endpoints: list[EndpointEntry]
    connections: Connections
    channels: list[ChannelEntry]
    findings: list[FindingEntry]
    suppressions: Suppressions
    rules: list[RuleEntry]
    certificates: list[CertificateEntry]
    fingerprints: list[FingerprintEntry]
    konnectivity: KonnectivityEntry
    timeline: Timeline
    summary: Summary
    outcome: Outcome
    aged_out: NotRequired[Annotated[AgedOut, Keywords("Of live sessions alone, once connections have left memory.")]]


TERNARIES: Final = ("yes", "no", "")
"""Facts that are known or not; empty where they are not."""

_TEXT: Final[dict[str, Any]] = {"type": "string"}
_NUMBER: Final[dict[str, Any]] = {"type": "number", "minimum": 0}
_COUNT: Final[dict[str, Any]] = {"type": "integer", "minimum": 0}
_PORT: Final[dict[str, Any]] = {"type": "integer", "minimum": 0, "maximum": 65535}
_FLAG: Final[dict[str, Any]] = {"type": "boolean"}
_TIME: Final[dict[str, Any]] = {"type": ["string", "null"]}


def _one_of(values: tuple[str, ...]) -> dict[str, Any]:
    return {"enum": list(values)}


CONNECTION_COLUMN_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "client_ip": _TEXT,
    "client_port": _PORT,
    "server_ip": _TEXT,
    "server_port": _PORT,
    "transport": _TEXT,
    "encapsulation": _TEXT,
    "channel": _TEXT,
    "protocol": _TEXT,
    "tls_version": _TEXT,
    "sni": _TEXT,
    "alpn": _TEXT,
    "encryption": _one_of(QUESTIONS["encryption"]),
    "encryption_grade": _one_of(GRADES),
    "client_certificate": _one_of(QUESTIONS["client_certificate"]),
    "client_certificate_grade": _one_of(GRADES),
    "server_verification": _one_of(QUESTIONS["server_verification"]),
    "server_verification_grade": _one_of(GRADES),
    "first_frame": _COUNT,
    "packets": _COUNT,
    "octets": _COUNT,
    # The columns above are a contract with other programs; those below may grow.
    "client_role": _TEXT,
    "server_role": _TEXT,
    "client_name": _TEXT,
    "server_name": _TEXT,
    "channel_grade": _one_of(GRADES),
    "channel_reason": _TEXT,
    "encryption_reason": _TEXT,
    "client_certificate_reason": _TEXT,
    "server_verification_reason": _TEXT,
    "initiator": _TEXT,
    "mid_connection": _FLAG,
    "handshake": _TEXT,
    "cipher_suite": _TEXT,
    "group": _TEXT,
    "alpn_offered": _TEXT,
    "client_stack": _TEXT,
    "ja3": _TEXT,
    "ja4": _TEXT,
    "ja3s": _TEXT,
    "server_certificate": _TEXT,
    "client_certificate_subject": _TEXT,
    "user_agent": _TEXT,
    "activity": _TEXT,
    "http_statuses": _TEXT,
    "credentials": _TEXT,
    "tls_version_grade": _one_of(GRADES),
    "hassh": _TEXT,
    "hassh_server": _TEXT,
    "ssh_algorithms": _TEXT,
    "ssh_weak": _TEXT,
    "post_quantum": _one_of(TERNARIES),
    "hello_retry": _one_of(TERNARIES),
    "early_data_offered": _one_of(TERNARIES),
    "renegotiated": _one_of(TERNARIES),
    "certificate_authorities_named": {"type": "string", "pattern": "^[0-9]*$"},
    "server_trusted_by": _TEXT,
    "client_trusted_by": _TEXT,
    "server_name_matches": _one_of(TERNARIES),
    "interactive": _FLAG,
    "decryption": _TEXT,
    "leg_of": {"type": "integer", "minimum": -1},
    "carried_by": {
        "type": "integer",
        "minimum": -1,
        "description": "Row of the connection inside which this one was found (CONNECT, konnectivity); -1 = none.",
    },
    "client_packets": _COUNT,
    "client_octets": _COUNT,
    "server_packets": _COUNT,
    "server_octets": _COUNT,
    "first_time": _TIME,
    "last_time": _TIME,
    "duration_s": _NUMBER,
    "last_frame": _COUNT,
    "evidence_frames": {"type": "string", "pattern": "^(([0-9]+:)?[0-9]+( ([0-9]+:)?[0-9]+)*)?$"},
    "vantage": _TEXT,
    "capture": _TEXT,
    "last_capture": _TEXT,
    "comment": _TEXT,
}
"""Columns of the connections table in their order, each with the JSON schema of one value."""

CONNECTION_COLUMNS: Final = tuple(CONNECTION_COLUMN_SCHEMAS)


def as_document(mapping: Mapping[str, Any]) -> Document:
    """Return the same mapping with the document's type. Nothing is checked or copied: `published_schema` checks."""
    return cast(Document, mapping)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the document, derived from the types above."""
    definitions: dict[str, Any] = {}
    root = schema_of(Document, definitions)
    definitions["Connections"] = _connections_schema()
    description = "One audit of packet captures from Kubernetes nodes."
    return published("planewire report", description, root, definitions)


def published(title: str, description: str, root: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole schema (draft 2020-12): `root` as `schema_of` gives it, and the definitions it refers to."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": description,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text(schema: Mapping[str, Any]) -> str:
    """Return a schema as it is committed."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def json_schema_text() -> str:
    """Return the text of ``analyzer/data/report.schema.json``."""
    return schema_text(json_schema())


def published_schema() -> dict[str, Any]:
    """Return the schema that ships with the package."""
    text = resources.files("analyzer").joinpath("data/report.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _connections_schema() -> dict[str, Any]:
    columns = {name: {"type": "array", "items": schema} for name, schema in CONNECTION_COLUMN_SCHEMAS.items()}
    return {
        "description": (Connections.__doc__ or "").strip(),
        "type": "object",
        "properties": {
            "columns": {"const": list(CONNECTION_COLUMNS)},
            "data": {
                "type": "object",
                "properties": columns,
                "required": list(CONNECTION_COLUMNS),
                "additionalProperties": False,
            },
        },
        "required": ["columns", "data"],
        "additionalProperties": False,
    }


_SCALARS: Final[dict[object, dict[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def schema_of(annotation: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - any type form
    """Return the schema of one type; typed dictionaries are added to `definitions` and referred to."""
    if annotation in _SCALARS:
        return dict(_SCALARS[annotation])
    if is_typeddict(annotation):
        name = annotation.__name__
        if name not in definitions:
            definitions[name] = {}
            hints = get_type_hints(annotation, include_extras=True)
            optional = {key for key, hint in hints.items() if get_origin(hint) is NotRequired}
            properties = {key: schema_of(hint, definitions) for key, hint in hints.items()}
            described = "" if (annotation.__doc__ or "dict(").startswith("dict(") else annotation.__doc__.strip()
            definitions[name] = {
                **({"description": described} if described else {}),
                "type": "object",
                "properties": properties,
                "required": [key for key in properties if key not in optional],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        keywords = {key: value for key, value in asdict(arguments[1]).items() if value is not None}
        return {**schema_of(arguments[0], definitions), **keywords}
    if origin is NotRequired:
        return schema_of(arguments[0], definitions)
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1], definitions)}
    return {"anyOf": [schema_of(argument, definitions) for argument in arguments]}
