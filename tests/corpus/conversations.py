"""Conversations as planewire counts them and as tshark does, and why the two differ where they do.

A conversation is a pair of address-port pairs, TCP or UDP, with the packets and octets each side sent. Octets are
those of the frame for the outermost packet and of the inner packet, by its own header, inside a tunnel.

A fragment counts for the conversation of its datagram. tshark says which that is in two ways: it names the frame in
which it put the datagram together, and, with reassembly switched off, the ports in the first fragment of one that it
could not.

Every reason is a predicate on header fields of one frame. No reason knows a file's name.
"""

from __future__ import annotations

import hashlib
import ipaddress
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from analyzer.capture.source import open_capture
from analyzer.decode import Decoder
from analyzer.decode.sightings import SightingFinder
from analyzer.decode.transport import TCP, UDP
from analyzer.registries import Decode
from analyzer.schema import I64, CaptureChunk
from tests.conftest import ROOT

CACHE: Final = ROOT / "build" / "tshark"
"""Where tshark's answers are kept, by its version and the capture's content."""

FIELDS: Final = (
    "frame.number",
    "frame.len",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.len",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.plen",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "ip.reassembled_in",
    "ipv6.reassembled.in",
    "ip.flags.mf",
    "ip.frag_offset",
    "ipv6.fraghdr.more",
    "ipv6.fraghdr.offset",
    "ip.hdr_len",
    "frame.cap_len",
    "_ws.malformed",
)

Endpoint = tuple[str, int]
Key = tuple[str, Endpoint, Endpoint]


@dataclass
class Totals:
    """Packets and octets from the key's first end and from its second."""

    packets: list[int] = field(default_factory=lambda: [0, 0])
    octets: list[int] = field(default_factory=lambda: [0, 0])


@dataclass
class Seen:
    """The conversations of one capture, with what each frame added to them."""

    totals: dict[Key, Totals] = field(default_factory=lambda: defaultdict(Totals))
    frames: dict[Key, Counter[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, transport: str, src: Endpoint, dst: Endpoint, frame: int, octets: int) -> None:
        """Count one packet."""
        side = int(dst < src)
        key = (transport, *((dst, src) if side else (src, dst)))
        totals = self.totals[key]
        totals.packets[side] += 1
        totals.octets[side] += octets
        self.frames[key][frame, side, octets] += 1


# ----------------------------------------------------------------------------------------------- tshark


@dataclass
class Layer:
    """One IP header of a frame as tshark reads it, and the ports behind it."""

    src: str
    dst: str
    octets: int
    transport: str = ""
    ports: tuple[int, int] = (0, 0)


@dataclass
class Frame:
    """One frame as tshark reads it."""

    octets: int
    layers: list[Layer]
    values: dict[str, list[str]]
    joined_in: int = 0  #: frame in which its datagram is complete


def tshark_version() -> str:
    """First line of ``tshark --version``."""
    return subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def run_tshark(capture: Path, version: str, *, reassemble: bool = True) -> bytes | None:
    """What tshark says about each frame, or None where it does not read the file to its end."""
    asked = f"{version} {' '.join(FIELDS)}{'' if reassemble else ' apart'}"
    digest = hashlib.sha256(capture.read_bytes() + asked.encode()).hexdigest()
    kept = CACHE / f"{digest}.tsv"
    if kept.is_file():
        text = kept.read_bytes()
        return None if text == b"unreadable" else text
    command = ["tshark", "-n", "-r", str(capture), "-o", "tcp.desegment_tcp_streams:FALSE", "-T", "fields"]
    if not reassemble:
        command += ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]
    for name in FIELDS:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    CACHE.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"unreadable" if done.returncode else done.stdout)
    return None if done.returncode else done.stdout


def frames_by_tshark(text: bytes) -> dict[int, Frame]:
    """tshark's field output as frames."""
    frames: dict[int, Frame] = {}
    joined: dict[int, int] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        values = {name: part.split(",") if part else [] for name, part in zip(FIELDS, line.split("\t"), strict=False)}
        number, octets = int(values["frame.number"][0]), int(values["frame.len"][0])
        frames[number] = Frame(octets, list(_layers(values, octets)), values)
        for name in ("ip.reassembled_in", "ipv6.reassembled.in"):
            for joined_in in values[name]:
                joined[number] = int(joined_in)
    for number, whole in joined.items():
        frames[number].joined_in = whole
    return frames


def _layers(values: dict[str, list[str]], octets: int) -> Iterator[Layer]:
    """The IP headers in order. What an ICMP error quotes is not a packet of its own."""
    parts = {name: iter(found) for name, found in values.items()}
    layer: Layer | None = None
    quoted = False
    for name in values["frame.protocols"][0].split(":") if values["frame.protocols"] else []:
        if name in {"icmp", "icmpv6"}:
            quoted = True
        elif name in {"ip", "ipv6"}:
            if layer is not None and not quoted:
                yield layer
            outermost = layer is None
            if name == "ip":
                claimed = int(next(parts["ip.len"], "0") or 0)
            else:
                claimed = 40 + int(next(parts["ipv6.plen"], "0") or 0)
            src, dst = next(parts[f"{name}.src"], ""), next(parts[f"{name}.dst"], "")
            layer = Layer(src, dst, octets if outermost else claimed)
            quoted = quoted and not outermost
        elif name in {"tcp", "udp"} and layer is not None:
            src_port, dst_port = next(parts[f"{name}.srcport"], ""), next(parts[f"{name}.dstport"], "")
            if src_port and dst_port and layer.src and not layer.transport:
                layer.transport, layer.ports = name, (int(src_port), int(dst_port))
    if layer is not None and not quoted:
        yield layer


def read_by_tshark(capture: Path, version: str) -> dict[int, Frame] | None:
    """The frames of a capture, or None where tshark does not read it to its end."""
    text = run_tshark(capture, version)
    if text is None:
        return None
    frames = frames_by_tshark(text)
    alone = [n for n, f in frames.items() if not f.joined_in and _is_fragment(f, []) and f.layers]
    if alone and (text := run_tshark(capture, version, reassemble=False)) is not None:
        apart = frames_by_tshark(text)
        for number in alone:
            if number in apart and not frames[number].layers[-1].transport:
                frames[number].layers = apart[number].layers
    return frames


def conversations_by_tshark(frames: dict[int, Frame]) -> Seen:
    """Count what tshark read."""
    seen = Seen()
    for number, frame in frames.items():
        layers = frame.layers
        if frame.joined_in and frame.joined_in in frames and layers:
            # The fragment's own layer, with the ports that its datagram turned out to have.
            whole = frames[frame.joined_in].layers
            own = layers[-1]
            if len(whole) >= len(layers):
                shared = whole[len(layers) - 1]
                own = Layer(own.src, own.dst, own.octets, shared.transport, shared.ports)
            layers = [*layers[:-1], own]
        for layer in layers:
            if layer.transport:
                ends = (layer.src, layer.ports[0]), (layer.dst, layer.ports[1])
                seen.add(layer.transport, *ends, number, layer.octets)
    return seen


# ------------------------------------------------------------------------------------------------- ours


def _text(address: bytes) -> str:
    mapped = ipaddress.IPv6Address(address).ipv4_mapped
    return str(mapped or ipaddress.IPv6Address(address))


@dataclass
class Packet:
    """What planewire says about one packet: enough to ask why it is counted so."""

    frame: int
    status: int
    path: str
    ports: tuple[int, int]


class EveryRecord(SightingFinder):
    """Takes every record for a packet of its own, as other tools do."""

    def find(self, chunk: CaptureChunk) -> I64:
        """Nothing repeats."""
        return np.empty(0, np.int64)


def conversations_by_planewire(capture: Path) -> tuple[Seen, dict[int, list[Packet]]]:
    """Count what the decoder read, records of one packet on several interfaces each; with every packet by frame."""
    seen, packets, decoder = Seen(), defaultdict(list), Decoder()
    decoder.sightings = EveryRecord()
    names = {TCP: "tcp", UDP: "udp"}
    with open_capture(str(capture)) as reader:
        for chunk in reader:
            table = decoder.decode(chunk)
            for i in np.lexsort((table.depth, table.frame)).tolist():
                ports = int(table.src_port[i]), int(table.dst_port[i])
                number, status = int(table.frame[i]), int(table.status[i])
                packets[number].append(Packet(number, status, decoder.paths[table.encapsulation[i]], ports))
                if status == Decode.OK:
                    ends = (
                        (_text(table.src[i].tobytes()), ports[0]),
                        (_text(table.dst[i].tobytes()), ports[1]),
                    )
                    seen.add(names[int(table.protocol[i])], *ends, number, int(table.wire_len[i]))
    return seen, packets


# ---------------------------------------------------------------------------------------------- reasons

Reason = Callable[[Frame, list[Packet]], bool]


def _any(frame: Frame, name: str) -> bool:
    return any(value not in {"", "0", "False"} for value in frame.values[name])


def _is_fragment(frame: Frame, packets: list[Packet]) -> bool:
    return any(
        _any(frame, name) for name in ("ip.flags.mf", "ip.frag_offset", "ipv6.fraghdr.more", "ipv6.fraghdr.offset")
    )


def _is_jumbo(frame: Frame, packets: list[Packet]) -> bool:
    lengths = frame.values["ip.len"] + frame.values["ipv6.plen"]
    return "0" in lengths or frame.octets > _LARGEST


def _header_is_cut(frame: Frame, packets: list[Packet]) -> bool:
    return any(p.status in {Decode.TRUNCATED_TRANSPORT, Decode.TRUNCATED_NETWORK} for p in packets)


def _header_contradicts(frame: Frame, packets: list[Packet]) -> bool:
    return any(p.status in {Decode.BAD_TRANSPORT, Decode.BAD_NETWORK} for p in packets)


def _options_malformed(frame: Frame, packets: list[Packet]) -> bool:
    protocols = frame.values["frame.protocols"]
    options = any(length != "20" for length in frame.values["ip.hdr_len"]) or "ipv6.dstopts" in "".join(protocols)
    return options and bool(frame.values["_ws.malformed"])


def _teredo_elsewhere(frame: Frame, packets: list[Packet]) -> bool:
    return any("teredo" in p.path for p in packets) and not any(3544 in p.ports for p in packets)


def _goes_deeper(frame: Frame, packets: list[Packet]) -> bool:
    return any(p.status == Decode.TOO_DEEP for p in packets)


def _carries_unread(*names: str) -> Reason:
    def reason(frame: Frame, packets: list[Packet]) -> bool:
        return bool(set(names) & set(":".join(frame.values["frame.protocols"]).split(":")))

    return reason


_LARGEST: Final = 65_535 + 64
"""Octets of a frame with the largest packet that has a length, and its link header."""
_CLIPPED: Final = 2**31 - 1


def _length_clipped(frame: Frame, packets: list[Packet]) -> bool:
    return frame.octets == _CLIPPED


REASONS: Final[tuple[tuple[str, str, Reason], ...]] = (
    (
        "fragment",
        "The frame holds an IP fragment. tshark names no ports for a later fragment of a datagram it could not "
        "complete (a fragment missing, or cut by the snap length); here it has the ports its first fragment "
        "named. A fragment captured before its datagram's first one has none here.",
        _is_fragment,
    ),
    ("frame length past 2^31", "tshark clips a record's length at 2,147,483,647.", _length_clipped),
    (
        "length zero",
        "IP Total Length or Payload Length is 0, or the frame is larger than either can say (an offloaded segment, BIG "
        "TCP, a jumbogram). tshark stops there, or "
        "counts the header alone; here the end of the frame counts (RFC 2675).",
        _is_jumbo,
    ),
    (
        "header cut",
        "The capture ends inside the fixed TCP or UDP header. tshark names ports from its first octets; here such a "
        "packet is counted in the ledger and belongs to no connection.",
        _header_is_cut,
    ),
    (
        "header contradicts",
        "TCP data offset or an IP length contradicts the packet (RFC 9293 3.1, RFC 791 3.1). tshark names ports; here "
        "the packet is counted as malformed.",
        _header_contradicts,
    ),
    (
        "options malformed",
        "IP options or destination options are malformed. tshark stops; here the header length tells where TCP or UDP "
        "begins.",
        _options_malformed,
    ),
    (
        "teredo off its port",
        "UDP carries exactly an IPv6 packet with a Teredo address, and neither port is 3544, where tshark looks.",
        _teredo_elsewhere,
    ),
    ("deeper than followed", "More nested headers than are followed; the ledger counts them.", _goes_deeper),
    (
        "tunnel not read",
        "CAPWAP, LISP control messages, NSH in VXLAN-GPE or IPComp: tshark reads, and for IPComp decompresses, what is "
        "inside.",
        _carries_unread("capwap.data", "lisp", "nsh", "ipcomp"),
    ),
)
"""Name, explanation and predicate; the first that holds is the reason."""


@dataclass
class Comparison:
    """What comparing one or many captures gave."""

    captures: int = 0
    conversations: int = 0
    equal: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)

    def add(self, other: Comparison) -> None:
        """Take in another capture's."""
        self.captures += other.captures
        self.conversations += other.conversations
        self.equal += other.equal
        self.reasons.update(other.reasons)
        self.unexplained += other.unexplained


def compare(capture: Path, version: str) -> Comparison | None:
    """Compare one capture; None where tshark does not read it to its end."""
    frames = read_by_tshark(capture, version)
    if frames is None:
        return None
    theirs, (ours, packets) = conversations_by_tshark(frames), conversations_by_planewire(capture)
    result = Comparison(captures=1)
    for key in theirs.totals.keys() | ours.totals.keys():
        result.conversations += 1
        if theirs.totals.get(key) == ours.totals.get(key):
            result.equal += 1
            continue
        apart = (theirs.frames[key] - ours.frames[key]) + (ours.frames[key] - theirs.frames[key])
        why = {_reason(frames.get(number), packets.get(number, [])) for number, _, _ in apart}
        result.reasons[" and ".join(sorted(why))] += 1
        if "" in why:
            result.unexplained.append(f"{capture.name}: {key}: {sorted(apart)[:4]}")
    return result


def _reason(frame: Frame | None, packets: list[Packet]) -> str:
    if frame is None:
        return ""
    return next((name for name, _, holds in REASONS if holds(frame, packets)), "")
