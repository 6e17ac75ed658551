"""The tables: frozen dataclasses of equal-length numpy columns, joined by integer row index.

A table is a struct of arrays. Ragged columns are ``offsets (N + 1,) int64`` beside flat content. Addresses are
``(N, 16) uint8`` with IPv4 mapped into IPv6 (RFC 4291 2.5.5.2). Times are nanoseconds since the Unix epoch, int64.
Text appears only where few distinct values exist, as an index into a tuple of strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple, Self
from typing import Protocol as TypingProtocol

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]


def rows_of(column: NDArray[Any], rows: I64) -> NDArray[Any]:
    """Rows of one column, in the given order."""
    if column.ndim == 1:
        return column.take(rows)
    if not column.flags.c_contiguous or not column.size:
        return column[rows]
    # Rows as one item each: numpy's gather of rows of several costs five times as much.
    items = column.reshape(column.shape[0], -1).view(np.dtype((np.void, column[0].nbytes)))[:, 0]
    return items[rows].view(column.dtype).reshape(-1, *column.shape[1:])


@dataclass(frozen=True, slots=True)
class Table:
    """Base of the tables whose every field is a column of the same length."""

    def __len__(self) -> int:
        column = getattr(self, fields(self)[0].name)
        return int(column.shape[0])

    def __post_init__(self) -> None:
        lengths = {f.name: getattr(self, f.name).shape[0] for f in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{type(self).__name__}: columns differ in length: {lengths}")

    def take(self, rows: I64 | Mask | slice) -> Self:
        """Return the table of the given rows, in the given order."""
        columns = [getattr(self, f.name) for f in fields(self)]
        if isinstance(rows, slice):
            return type(self)(*(column[rows] for column in columns))
        chosen: I64 = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64, copy=False)
        return type(self)(*(rows_of(column, chosen) for column in columns))

    @classmethod
    def concatenate(cls, tables: Sequence[Self]) -> Self:
        """Return the rows of all tables, one table after the other. `tables` is not empty."""
        if len(tables) == 1:
            return tables[0]
        return cls(*(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(cls)))


# --------------------------------------------------------------------------------------------- capture


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of a capture: a pcap file has exactly one, a pcapng section any number."""

    link_type: int
    snaplen: int  #: octets; 0 = not limited
    name: str = ""  #: as the capture says (pcapng if_name), untrusted text
    description: str = ""
    hardware: str = ""
    filter: str = ""  #: the capture filter, as the capture says (pcapng if_filter)
    system: str = ""  #: operating system of the capturing host (pcapng if_os)
    received: int | None = None  #: frames the capture says it received (ISB isb_ifrecv)
    dropped: int | None = None
    """Frames the capture says it dropped: ISB isb_ifdrop + isb_osdrop, or the sum of epb_dropcount if larger."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where the input stops making sense; everything before it has been delivered."""

    offset: int  #: octets from the start of the (decompressed) input
    reason: str


NO_LINK = -1
"""Link type of a record that is no packet and still has a frame number (pcapng custom block, journal entry)."""


@dataclass(frozen=True, slots=True)
class CaptureChunk:
    """A run of consecutive frames: the unit that the pipeline moves.

    Attributes
    ----------
    octets : (B,) uint8
        Buffer that holds every captured octet of these frames, plus record headers between them. It may be
        reused by the reader once the next chunk is asked for: copy what must live longer.
    start : (N,) int64
        Offset in `octets` of each frame's first captured octet.
    captured_len : (N,) int64
        Captured octets of each frame. ``start + captured_len <= B``.
    wire_len : (N,) int64
        Octets the frame had on the wire.
    time_ns : (N,) int64
        Capture time, nanoseconds since the Unix epoch; 0 where the record carries none (pcapng SPB).
    interface : (N,) int32
        Row in the reader's ``interfaces``.
    link_type : (N,) int32
        LINKTYPE_ value of the frame's interface; `NO_LINK` where the record is no packet.
    first_frame : int
        Number of the first frame, counted from 1 as Wireshark does. Where several captures are read as one input the
        count goes on from one to the next; `report.numbering` turns it back into each file's own.
    capture : int
        Which capture of the input: 0, 1, 2 ... in the order they are read.
    vantage : int
        Which vantage point: captures of one vantage point are one recording, and are read one after the other.
    """

    octets: U8
    start: I64
    captured_len: I64
    wire_len: I64
    time_ns: I64
    interface: I32
    link_type: I32
    first_frame: int
    capture: int = 0
    vantage: int = 0

    def __len__(self) -> int:
        return int(self.start.shape[0])

    def take(self, rows: I64 | slice, first_frame: int | None = None) -> CaptureChunk:
        """Return the frames of `rows`, over the same octets; `first_frame` stays where it is not given."""
        return CaptureChunk(
            self.octets,
            self.start[rows],
            self.captured_len[rows],
            self.wire_len[rows],
            self.time_ns[rows],
            self.interface[rows],
            self.link_type[rows],
            self.first_frame if first_frame is None else first_frame,
            self.capture,
            self.vantage,
        )


@dataclass(frozen=True, slots=True)
class CaptureOrigin:
    """What one capture of an input was, once it has been read.

    Attributes
    ----------
    name, format : str
    octets : int
        Of the input, before decompression.
    first_number : int
        Number of frames of the captures before it: the frame that the whole input counts as ``first_number + 1`` is
        this capture's frame 1.
    vantage : int
    interfaces, damage, comments : sequence
        As in `CaptureReader`; comments name frames as the file itself numbers them.
    """

    name: str
    format: str
    octets: int
    first_number: int
    vantage: int
    interfaces: Sequence[Interface]
    damage: Sequence[Damage]
    comments: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, slots=True)
class VantagePoint:
    """A place packets were recorded at: one node, or one interface of it."""

    name: str  #: as the user or the file names tell; untrusted text
    captures: tuple[int, ...]  #: rows of the input's captures, in order of time
    given: bool  #: the user named it
    assumed: str  #: why these captures were taken as one vantage point; empty where there was no choice


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was found and not analysed."""

    name: str
    reason: str
    named: bool  #: the user named this very file, rather than a folder, a pattern or an archive


class CaptureReader(TypingProtocol):
    """What every source of frames offers: files, pipes, live sockets.

    Iterating yields chunks. The other attributes are complete once the iteration has ended, and hold what is known
    so far before that.
    """

    name: str  #: as the user named it; ``-`` for standard input
    format: str  #: ``pcap``, ``pcapng``; with compression: ``pcap.gz``
    interfaces: list[Interface]
    damage: list[Damage]
    secrets: list[bytes]  #: pcapng decryption secrets (NSS key log text), never printed
    names: list[tuple[str, str]]  #: (address, name) from pcapng name resolution blocks, untrusted text
    comments: list[tuple[int, str]]  #: (frame, text) from pcapng packet comments; frame 0 = section or interface

    @property
    def octets_read(self) -> int:
        """Octets of the input read so far, before decompression."""

    def __iter__(self) -> Iterator[CaptureChunk]: ...


# --------------------------------------------------------------------------------------------- packets


@dataclass(frozen=True, slots=True)
class PacketTable(Table):
    """One row a packet. A tunnelled frame has one row for the outer packet and one for each inner one.

    Where ``status`` is not ``Decode.OK`` the transport columns are 0; where it is also none of
    ``OTHER_TRANSPORT`` and ``LATER_FRAGMENT`` the addresses are 0 as well.

    Attributes
    ----------
    frame : (N,) int64
        Frame number from 1.
    time_ns : (N,) int64
    interface : (N,) int32
    depth : (N,) uint8
        0 for the outermost packet of a frame, 1 for the packet inside its first tunnel ...
    encapsulation : (N,) int32
        Index into the decoder's list of encapsulation paths (``""``, ``"vxlan:1"``, ``"vlan:100/ipip"`` ...).
    status : (N,) uint8
        `registries.Decode`.
    wire_len : (N,) int64
        Octets of the packet on the wire: for depth 0 the whole frame, else the inner packet by its own header.
    protocol : (N,) uint8
        IANA protocol number of the transport (6 TCP, 17 UDP ...).
    src, dst : (N, 16) uint8
    src_port, dst_port : (N,) uint16
    payload_start, payload_stop : (N,) int64
        Captured transport payload, half-open, in the chunk's `octets`. For ``OTHER_TRANSPORT``: the IP payload.
    payload_len : (N,) int64
        Octets of payload the headers claim; larger than ``stop - start`` where the snap length cut the packet.
    seq, ack : (N,) uint32
    tcp_flags : (N,) uint8
        CWR ECE URG ACK PSH RST SYN FIN, bit 0 = FIN (RFC 9293 3.1).
    """

    frame: I64
    time_ns: I64
    interface: I32
    depth: U8
    encapsulation: I32
    status: U8
    wire_len: I64
    protocol: U8
    src: U8
    dst: U8
    src_port: U16
    dst_port: U16
    payload_start: I64
    payload_stop: I64
    payload_len: I64
    seq: U32
    ack: U32
    tcp_flags: U8


# ----------------------------------------------------------------------------------------------- flows


@dataclass(frozen=True, slots=True)
class FlowTable(Table):
    """One row a bidirectional flow (for TCP: a connection); side 0 is the client, side 1 the server.

    Attributes
    ----------
    address : (F, 2, 16) uint8
    port : (F, 2) uint16
    protocol : (F,) uint8
        IANA protocol number.
    encapsulation : (F,) int32
        Index into the list of encapsulation paths.
    initiator : (F,) uint8
        `registries.InitiatorSource`.
    vantage : (F,) int32
        Vantage point it was seen from: flows of different vantage points are never one row.
    first_frame, last_frame : (F,) int64
    first_ns, last_ns : (F,) int64
    packets, octets, payload_octets : (F, 2) int64
        What each side sent: packets, octets on the wire, transport payload octets by header.
    flags : (F, 2) uint8
        All TCP flags each side ever set, or-ed.
    syn_seq : (F, 2) int64
        Initial sequence number each side's SYN carried; -1 where no SYN of that side was captured.
    cut_packets : (F,) int64
        Packets whose payload the snap length cut.
    interfaces : (F,) uint64
        Bit i set: seen on interface i of its recording (63 = any interface from 63 on).
    signature : (F, 2, 8) int32
        Packets of each side whose payload begins like: 0 a TLS handshake/CCS/alert record, 1 a TLS application
        data record, 2 an HTTP/1 request line, 3 an HTTP/1 status line, 4 the HTTP/2 preface, 5 an SSH banner,
        6 anything else, 7 printable ASCII (counted besides the others).
    signature_frame : (F, 2, 8) int64
        First frame that did; 0 = none. Read where protocols are recognised and not kept behind that: (F, 0, 0).
    """

    address: U8
    port: U16
    protocol: U8
    encapsulation: I32
    initiator: U8
    vantage: I32
    first_frame: I64
    last_frame: I64
    first_ns: I64
    last_ns: I64
    packets: I64
    octets: I64
    payload_octets: I64
    flags: U8
    syn_seq: I64
    cut_packets: I64
    interfaces: U64
    signature: I32
    signature_frame: I64


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic over time: one row a flow and bin in which it had a packet, by flow and bin.

    Attributes
    ----------
    shift : int
        Bin ``b`` holds the packets of ``b << shift <= time_ns < (b + 1) << shift``.
    flow, bin, packets, octets : (R,) int64
        Both directions together; octets on the wire.
    """

    shift: int
    flow: I64
    bin: I64
    packets: I64
    octets: I64

    def __len__(self) -> int:
        return int(self.flow.shape[0])


@dataclass(frozen=True, slots=True)
class AgedOut(Table):
    """What each flow stands for besides itself: connections just like it that left memory, and their traffic.

    ``connections``, ``packets``, ``octets`` (F,) int64.
    """

    connections: I64
    packets: I64
    octets: I64


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Capture times of every so many frames, of R recordings.

    Attributes
    ----------
    first, strides : (R,) int64
        The times are those of the frames ``first``, ``first + stride``, ``first + 2 * stride`` ... of each recording.
    offsets : (R + 1,) int64
        Where in `time_ns` each recording's times are.
    time_ns : (S,) int64
        Nanoseconds since the epoch, 0 = none.
    """

    first: I64
    strides: I64
    offsets: I64
    time_ns: I64

    @classmethod
    def of(cls, stride: int, time_ns: I64) -> Self:
        """Times of the frames 1, 1 + stride, 1 + 2 * stride ... of one recording."""
        recordings = min(time_ns.shape[0], 1)
        ends = np.array([0, time_ns.shape[0]][: recordings + 1], np.int64)
        return cls(np.ones(recordings, np.int64), np.full(recordings, stride, np.int64), ends, time_ns)

    @property
    def stride(self) -> int:
        """The longest distance between two frames whose time is kept."""
        return int(self.strides.max(initial=1))

    def at(self, frame: I64) -> I64:
        """Time of the last of these frames up to each given one; 0 where there is none: (N,) int64."""
        if self.time_ns.shape[0] == 0:
            return np.zeros(frame.shape[0], np.int64)
        row = np.maximum(np.searchsorted(self.first, frame, side="right") - 1, 0)
        sample = np.maximum(frame - self.first[row], 0) // self.strides[row]
        sample = np.minimum(sample + self.offsets[row], self.offsets[row + 1] - 1)
        return np.where(frame > 0, self.time_ns[sample], 0)


@dataclass(frozen=True, slots=True)
class StreamHeads:
    """The first octets of each direction of each flow, by sequence number.

    Stream ``2 * flow`` is client to server, ``2 * flow + 1`` server to client. For UDP and other datagram flows the
    stream is the first datagrams' payloads, one segment each.

    Attributes
    ----------
    octets : (B,) uint8
        Heads back to back. Octets inside a hole are filler and must not be read.
    offsets : (M + 1,) int64
        Head m is ``octets[offsets[m]:offsets[m + 1]]``. Positions below count from ``offsets[m]``.
    from_start : (M,) bool
        The head begins with the first octet of the stream (its SYN was captured). False: mid-connection.
    stop : (M,) uint8
        `registries.HeadStop`.
    holes_stream, holes_start, holes_stop : (H,) int64
        Octets that were sent but not captured (loss, snap length), as half-open ranges of positions, sorted by
        stream and position; ranges lie inside the head.
    segments_offsets : (M + 1,) int64
        Segments of stream m are rows ``segments_offsets[m]:segments_offsets[m + 1]`` of the next two.
    segment_position : (S,) int64
        Position of the segment's first octet in the head, ascending in each stream.
    segment_frame : (S,) int64
        Frame that carried it.
    conflict : (M,) bool
        Two segments carried different octets for the same position; the first copy was kept.
    """

    octets: U8
    offsets: I64
    from_start: Mask
    stop: U8
    holes_stream: I64
    holes_start: I64
    holes_stop: I64
    segments_offsets: I64
    segment_position: I64
    segment_frame: I64
    conflict: Mask

    def __len__(self) -> int:
        return int(self.from_start.shape[0])

    def head(self, stream: int) -> U8:
        """Octets of one head, filler included."""
        return self.octets[self.offsets[stream] : self.offsets[stream + 1]]

    def known_until(self) -> I64:
        """Position of each stream's first hole, or its length where it has none: (M,) int64."""
        known = np.diff(self.offsets)
        np.minimum.at(known, self.holes_stream, self.holes_start)
        return known

    def frames_at(self, stream: I64, position: I64) -> I64:
        """Frame that carried the octet at each (stream, position): (N,) int64; 0 where no segment did."""
        first = self.segments_offsets[stream]
        low, high = first.copy(), self.segments_offsets[stream + 1]
        # Bisection of every stream's own segments, all together: low ends behind the last one at or before position.
        while (low < high).any():
            middle = (low + high) >> 1
            before = (low < high) & (self.segment_position.take(middle, mode="clip") <= position)
            low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
        found = low > first
        frames = np.zeros(stream.shape[0], np.int64)
        frames[found] = self.segment_frame[low[found] - 1]
        return frames


@dataclass(frozen=True, slots=True)
class LateMessage:
    """A segment behind the head that begins with an HTTP/1 start line, and what followed of its field section."""

    stream: int  #: ``2 * flow + side`` as the flow builder numbered them
    frame: int
    octets: bytes = field(repr=False)


# ---------------------------------------------------------------------------------------- protocol facts


@dataclass(frozen=True, slots=True)
class TlsFacts(Table):
    """What the handshakes show; one row a TLS flow. String columns index ``TlsReading.strings``, -1 = none seen.

    Attributes
    ----------
    flow : (T,) int64
        Row in the flow table.
    client_hello_seen, server_hello_seen : (T,) bool
    version : (T,) uint16
        Negotiated `TlsVersion`, by the ServerHello, or by what the records imply where none was readable; 0 = neither.
    cipher_suite : (T,) uint16
        Negotiated; 0 (TLS_NULL_WITH_NULL_NULL) where no ServerHello was readable: check `server_hello_seen`.
    group : (T,) uint16
        Key share group the server chose (RFC 8446 4.2.8, or ServerKeyExchange named curve); 0 = not seen.
    sni, alpn_offered, alpn, groups_offered, ja3, ja3s, ja4 : (T,) int32
        String index. `alpn_offered` is comma-joined in the client's order; `alpn` is the server's choice;
        `groups_offered` is dash-joined decimal numbers.
    alpn_grade : (T,) uint8
        OBSERVED where the ServerHello is clear and holds it (<= 1.2), INFERRED from the EncryptedExtensions length.
    max_offered : (T,) uint16
        Highest version the ClientHello offers.
    client_stack, server_stack : (T,) uint8
        0 unknown, 1 Go crypto/tls (see `go` data), 2 OpenSSL, 3 another recognised stack.
    resumed : (T,) uint8
        `Ternary`: an abbreviated handshake (<= 1.2) or a pre-shared key accepted (1.3).
    established : (T,) uint8
        `Ternary`: both Finished were seen (clear flow of records), or application data flowed both ways.
    certificate_requested : (T,) uint8
        `Ternary`.
    certificate_requested_grade : (T,) uint8
    client_certificate : (T,) uint8
        `Ternary`: the client sent a non-empty Certificate.
    client_certificate_grade : (T,) uint8
    client_chain, server_chain : (T,) int32
        Row in ``TlsReading.chains``; -1 = not visible.
    client_key, server_key : (T,) int32
        String index of the key type by certificate or CertificateVerify length: ``rsa-2048``, ``ecdsa-p256`` ...
    server_self_made : (T,) uint8
        `Ternary`: the server's certificate has the kubelet's self-made pattern (``CN=x@unixtime`` issued by
        ``CN=x-ca@unixtime``) or is self-signed. By the Certificate record's length where it is encrypted.
    server_self_made_grade : (T,) uint8
    server_certificate_len : (T,) int64
        Octets of the server's Certificate record (encrypted) or message (clear); 0 = not seen.
    client_certificate_len : (T,) int64
    refused : (T,) uint8
        `Ternary`: the client refused the server's certificate (a certificate alert in clear, or the pattern of an
        encrypted alert in place of the client's second flight and close).
    refused_grade : (T,) uint8
    client_alert, server_alert : (T,) int16
        AlertDescription of the first clear alert of that side; -1 = none.
    unclear : (T,) int32
        String index: why something above could not be decided (gap, cut by snap length, mid-connection ...).
    client_hello_frame, server_hello_frame, server_certificate_frame, client_flight_frame, client_alert_frame,
    server_alert_frame, application_data_frame : (T,) int64
        Frames that show it; 0 = not seen. `client_flight_frame` is the frame of the client's Certificate (or of what
        stands in its place), `application_data_frame` that of the first application data the client sent.
    decrypted : (T,) uint8
        `Ternary`: YES where records were opened with the keys given, NO where keys were given for it and open none.
    decryption : (T,) int32
        String index: what became of the keys, in words; -1 where no keys were given at all.
    version_grade : (T,) uint8
        How `version` is known: OBSERVED by the ServerHello, INFERRED from the records.
    post_quantum : (T,) uint8
        `Ternary`: the key exchange is a hybrid with a post-quantum group (see `group`).
    hello_retry : (T,) uint8
        `Ternary`: the server answered the first ClientHello with a HelloRetryRequest (RFC 8446 4.1.4).
    early_data : (T,) uint8
        `Ternary`: the client offered early data (0-RTT, RFC 8446 2.3).
    renegotiated : (T,) uint8
        `Ternary`: a second handshake inside the first one's protection, seen with keys; NO in TLS 1.3, which has none.
    authorities : (T,) int16
        CA names in the server's CertificateRequest; -1 = none was sent or their number is not known.
    authorities_grade : (T,) uint8
        OBSERVED where the message is readable, INFERRED by its length where the server is Go.
    lower_confidence : (T,) uint8
        What of the inferences from record lengths rests on an end that is not shown to be Go, and that may not write
        one message a record: bit 0 what the client's flight says, bit 1 what the server's says.
    """

    flow: I64
    client_hello_seen: Mask
    server_hello_seen: Mask
    version: U16
    cipher_suite: U16
    group: U16
    sni: I32
    alpn_offered: I32
    alpn: I32
    groups_offered: I32
    ja3: I32
    ja3s: I32
    ja4: I32
    alpn_grade: U8
    max_offered: U16
    client_stack: U8
    server_stack: U8
    resumed: U8
    established: U8
    certificate_requested: U8
    certificate_requested_grade: U8
    client_certificate: U8
    client_certificate_grade: U8
    client_chain: I32
    server_chain: I32
    client_key: I32
    server_key: I32
    server_self_made: U8
    server_self_made_grade: U8
    server_certificate_len: I64
    client_certificate_len: I64
    refused: U8
    refused_grade: U8
    client_alert: NDArray[np.int16]
    server_alert: NDArray[np.int16]
    unclear: I32
    client_hello_frame: I64
    server_hello_frame: I64
    server_certificate_frame: I64
    client_flight_frame: I64
    client_alert_frame: I64
    server_alert_frame: I64
    application_data_frame: I64
    decrypted: U8
    decryption: I32
    version_grade: U8
    post_quantum: U8
    hello_retry: U8
    early_data: U8
    renegotiated: U8
    authorities: NDArray[np.int16]
    authorities_grade: U8
    lower_confidence: U8


TLS_STRINGS: Final = (
    "sni",
    "alpn_offered",
    "alpn",
    "groups_offered",
    "ja3",
    "ja3s",
    "ja4",
    "client_key",
    "server_key",
    "unclear",
    "decryption",
)
"""Columns of `TlsFacts` that index ``TlsReading.strings``."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One distinct X.509 certificate seen in clear (or decrypted)."""

    sha256: str
    subject: str  #: RFC 4514 text, untrusted
    issuer: str
    common_name: str
    organizations: tuple[str, ...]
    issuer_common_name: str
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    not_before_ns: int
    not_after_ns: int
    key: str  #: ``rsa-2048``, ``ecdsa-p256``, ``ed25519`` ...
    signature: str  #: signature algorithm name
    is_ca: bool
    self_signed: bool  #: issuer equals subject and its own key verifies the signature
    kubelet_self_made: bool  #: CN=<node>@<unix time> issued by CN=<node>-ca@<unix time> (client-go util/cert)
    der: bytes = field(repr=False, default=b"")
    problem: str = ""  #: why it could not be parsed; the other fields are then empty


@dataclass(frozen=True, slots=True)
class TlsReading:
    """`TlsFacts` with what its index columns point to."""

    facts: TlsFacts
    strings: tuple[str, ...]
    chains: tuple[tuple[int, ...], ...]  #: rows of `certificates`, leaf first
    certificates: tuple[Certificate, ...]
    requested_names: tuple[tuple[int, tuple[str, ...]], ...] = ()
    #: (flow, names of the CAs a clear CertificateRequest lists)


class HttpHead(NamedTuple):
    """What is kept of the head of an HTTP request or response: messages that say the same share it."""

    from_client: bool
    version: str  #: ``1.0``, ``1.1``, ``2``
    method: str = ""  #: empty for a response
    target: str = ""  #: request target (RFC 9112 3.2) or :path, untrusted
    status: int = 0  #: 0 for a request
    host: str = ""  #: Host header or :authority
    user_agent: str = ""
    upgrade: str = ""
    forwarded_uri: str = ""  #: X-Forwarded-Uri
    forwarded_for: str = ""
    content_type: str = ""
    subprotocol: str = ""  #: Sec-WebSocket-Protocol or X-Stream-Protocol-Version
    credential: str = ""  #: redacted: ``bearer (service account ns/name)``, ``basic``, ``cookie``; empty = none
    credential_facts: tuple[tuple[str, str], ...] = ()  #: JWT iss, sub, aud, exp where readable
    undecoded: int = 0  #: fields of an HTTP/2 message whose names went over the wire before the capture


@dataclass(slots=True)
class HttpMessage:
    """One HTTP request or response read in clear, HTTP/1 or one HTTP/2 stream's header block.

    Not frozen: the pipeline renumbers ``flow`` in place, once, when flows get their final order. What its head says is
    read through it.
    """

    flow: int
    frame: int
    head: HttpHead
    decrypted: bool = False  #: read with the keys of its TLS connection: it did not cross the wire in clear

    @property
    def from_client(self) -> bool:  # noqa: D102
        return self.head.from_client

    @property
    def version(self) -> str:  # noqa: D102
        return self.head.version

    @property
    def method(self) -> str:  # noqa: D102
        return self.head.method

    @property
    def target(self) -> str:  # noqa: D102
        return self.head.target

    @property
    def status(self) -> int:  # noqa: D102
        return self.head.status

    @property
    def host(self) -> str:  # noqa: D102
        return self.head.host

    @property
    def user_agent(self) -> str:  # noqa: D102
        return self.head.user_agent

    @property
    def upgrade(self) -> str:  # noqa: D102
        return self.head.upgrade

    @property
    def forwarded_uri(self) -> str:  # noqa: D102
        return self.head.forwarded_uri

    @property
    def forwarded_for(self) -> str:  # noqa: D102
        return self.head.forwarded_for

    @property
    def content_type(self) -> str:  # noqa: D102
        return self.head.content_type

    @property
    def subprotocol(self) -> str:  # noqa: D102
        return self.head.subprotocol

    @property
    def credential(self) -> str:  # noqa: D102
        return self.head.credential

    @property
    def credential_facts(self) -> tuple[tuple[str, str], ...]:  # noqa: D102
        return self.head.credential_facts

    @property
    def undecoded(self) -> int:  # noqa: D102
        return self.head.undecoded


@dataclass(frozen=True, slots=True)
class SshFacts:
    """Banners and key exchange offers of one SSH flow; empty = not captured whole. All text is untrusted."""

    flow: int
    client_banner: str
    server_banner: str
    client_frame: int
    server_frame: int
    client_offer: tuple[tuple[str, ...], ...] = ()  #: the ten name lists of SSH_MSG_KEXINIT (RFC 4253 7.1)
    server_offer: tuple[tuple[str, ...], ...] = ()
    hassh: str = ""
    hassh_server: str = ""
    negotiated: tuple[tuple[str, str], ...] = ()  #: (what for, algorithm), where both offers were seen
    weak: tuple[tuple[str, str], ...] = ()  #: (algorithm negotiated, why it should not be)


@dataclass(frozen=True, slots=True)
class CleartextReading:
    """What the clear protocols say: HTTP messages, SSH banners."""

    http: tuple[HttpMessage, ...] = ()
    ssh: tuple[SshFacts, ...] = ()
