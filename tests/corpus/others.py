"""Agreement with the expected outputs beside the public captures: Zeek, Arkime, nfstream, pcapng-test-generator.

What is compared is what each of them states: packets each way of a TCP or UDP conversation (Zeek's conn.log, Arkime's
sessions), packets and octets of a flow (nfstream), blocks of a file (pcapng-test-generator). Every disagreement has a
class, which is a predicate on the octets or on what the other tool's output says; no class knows a file's name.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from analyzer.capture.source import open_capture
from analyzer.schema import NO_LINK
from tests.conftest import SHARED
from tests.corpus.conversations import Key, Packet, Seen, conversations_by_planewire

PUBLIC: Final = SHARED / "public"
_IDLE_S: Final = 120.0
"""nfstream's idle timeout."""
_ZEEK_COLUMNS: Final = {"id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "orig_pkts", "resp_pkts"}

Stated = dict[Key, tuple[int, int]]


@dataclass
class Agreement:
    """One tool's table."""

    tool: str
    unit: str
    outputs: int = 0
    stated: int = 0
    equal: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)


@dataclass
class Wire:
    """Header fields of a capture's frames, as tshark shows them: fragment, VLAN ids, time, octets cut off."""

    fragment: dict[int, bool]
    vlans: dict[int, str]
    time: dict[int, float]
    cut: dict[int, bool]


def expected() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every capture with each of its expected outputs."""
    for entry in json.loads((PUBLIC / "manifest.json").read_text()):
        for output in entry["expected_all"]:
            yield PUBLIC / entry["file"], output


@cache
def ours(capture: Path) -> tuple[Seen, dict[int, list[Packet]]]:
    """What planewire counts."""
    return conversations_by_planewire(capture)


@cache
def wire(capture: Path) -> Wire:
    """The header fields that the classes ask for; only captures with a disagreement are asked about."""
    fragment = "ip.flags.mf", "ip.frag_offset", "ipv6.fraghdr.offset", "ipv6.fraghdr.more"
    names = ("frame.number", "frame.time_epoch", "vlan.id", *fragment, "frame.len", "frame.cap_len")
    command = ["tshark", "-n", "-r", str(capture), "-T", "fields", *(word for name in names for word in ("-e", name))]
    text = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout
    found = Wire({}, {}, {}, {})
    for line in text.splitlines():
        number, when, vlan, *parts, octets, captured = line.split("\t")
        row = int(number)
        found.time[row], found.vlans[row] = float(when), vlan
        found.fragment[row] = any(value not in {"0", "False"} for part in parts for value in part.split(",") if value)
        found.cut[row] = int(captured) < int(octets)
    return found


def _turned(src: tuple[str, int], dst: tuple[str, int], sent: int, received: int) -> tuple[Any, Any, tuple[int, int]]:
    return (dst, src, (received, sent)) if dst < src else (src, dst, (sent, received))


def zeek(output: Path) -> Stated | None:
    """Conversations of a conn.log; None where it lacks a column, or states no packets."""
    names: list[str] = []
    stated: dict[Key, tuple[int, int]] = {}
    for line in output.read_text(errors="replace").splitlines():
        if line.startswith("#fields"):
            names = line.split("\t")[1:]
        elif line and not line.startswith("#"):
            if not names:
                names = line.split("\t")
                continue
            if not set(names) >= _ZEEK_COLUMNS:
                return None
            row = dict(zip(names, line.split("\t"), strict=False))
            if row["proto"] not in {"tcp", "udp"}:
                continue
            if "-" in (row["orig_pkts"], row["resp_pkts"]):
                return None
            ends = (row["id.orig_h"], int(row["id.orig_p"])), (row["id.resp_h"], int(row["id.resp_p"]))
            one, other, packets = _turned(*ends, int(row["orig_pkts"]), int(row["resp_pkts"]))
            before = stated.get((row["proto"], one, other), (0, 0))
            stated[row["proto"], one, other] = before[0] + packets[0], before[1] + packets[1]
    return stated


def arkime(output: Path) -> Stated | None:
    """Conversations of Arkime's session documents."""
    stated: dict[Key, tuple[int, int]] = {}
    for session in json.loads(output.read_text())["sessions3"]:
        body = session["body"]
        transport = {6: "tcp", 17: "udp"}.get(body.get("ipProtocol"))
        if transport is None:
            continue
        src, dst = ((body[side]["ip"], body[side].get("port", 0)) for side in ("source", "destination"))
        one, other, sent = _turned(src, dst, body["source"]["packets"], body["destination"]["packets"])
        before = stated.get((transport, one, other), (0, 0))
        stated[transport, one, other] = before[0] + sent[0], before[1] + sent[1]
    return stated


# ---------------------------------------------------------------------------------------------- classes


@dataclass(frozen=True)
class Difference:
    """One conversation that two tools count differently."""

    capture: Path
    key: Key
    theirs: tuple[int, int] | None
    mine: tuple[int, int] | None
    partial: bool = False  #: the other output leaves conversations out

    @property
    def frames(self) -> list[int]:
        """Frames that planewire counts for it."""
        return sorted({frame for frame, _, _ in ours(self.capture)[0].frames.get(self.key, {})})

    @property
    def packets(self) -> list[Packet]:
        """All packets of these frames."""
        return [packet for frame in self.frames for packet in ours(self.capture)[1][frame]]


def _fragmented(d: Difference) -> bool:
    return any(wire(d.capture).fragment.get(frame) for frame in d.frames)


def _carries(d: Difference) -> bool:
    ends = {d.key[1][1], d.key[2][1]}
    return any(p.path and not ends.isdisjoint(q.ports) for p in d.packets for q in d.packets if not q.path)


def _left_out(d: Difference) -> bool:
    fewer = d.theirs is not None and d.mine is not None and all(t <= m for t, m in zip(d.theirs, d.mine, strict=True))
    return d.partial and (d.theirs is None or fewer)


def _cut(d: Difference) -> bool:
    return any(wire(d.capture).cut.get(frame) for frame in d.frames)


def _dhcp(d: Difference) -> bool:
    return {d.key[1][1], d.key[2][1]} == {67, 68}


def _lone(d: Difference) -> bool:
    return len(d.frames) == 1 and d.theirs is not None and d.theirs[::-1] == d.mine


def _tagged_and_not(d: Difference) -> bool:
    return len({wire(d.capture).vlans.get(frame) for frame in d.frames}) > 1


def _silent(d: Difference) -> bool:
    times = [wire(d.capture).time[frame] for frame in d.frames if frame in wire(d.capture).time]
    return any(after - before > _IDLE_S for before, after in pairwise(times))


def _tunnelled(d: Difference) -> bool:
    return any(p.path for p in d.packets)


Class = tuple[str, str, Callable[[Difference], bool]]

FRAGMENTS: Final[Class] = (
    "fragments",
    "counts a fragmented datagram once; here every fragment is a packet of its conversation",
    _fragmented,
)
CLASSES: Final[dict[str, tuple[Class, ...]]] = {
    "Zeek": (
        FRAGMENTS,
        (
            "cut packets",
            "counts no packet of a connection whose octets the snap length cut; the headers are here",
            _cut,
        ),
        (
            "not in the log",
            "leaves conversations or packets out of this log: the test's script or filter does not look at all",
            _left_out,
        ),
    ),
    "Arkime": (
        FRAGMENTS,
        ("carriers", "lists what is inside a tunnel and not the outer conversation; here both are rows", _carries),
        ("DHCP", "joins a client's DHCP exchange into one session, whatever addresses it uses", _dhcp),
        (
            "lone packet",
            "counts the only packet of a connection, a server's, for the side it takes for the client",
            _lone,
        ),
    ),
    "nfstream": (
        FRAGMENTS,
        (
            "tunnels",
            "looks into a tunnel once, or not at all, and lists no outer flow; here every level is a row",
            _tunnelled,
        ),
        (
            "VLAN",
            "keeps packets of one conversation apart by VLAN tag; here the tag is no part of a connection",
            _tagged_and_not,
        ),
        (
            "idle",
            f"ends a flow after {_IDLE_S:.0f} s of silence; here a TCP connection ends with FIN, RST or a new SYN",
            _silent,
        ),
    ),
}


def _classify(agreement: Agreement, difference: Difference) -> None:
    for name, _, holds in CLASSES[agreement.tool]:
        if holds(difference):
            agreement.classes[name] += 1
            return
    agreement.unexplained.append(f"{difference.capture.name}: {difference.key}: {difference.theirs}, {difference.mine}")


def by_conversation(tool: str, read: Callable[[Path], Stated | None], ends_with: str, folder: str) -> Agreement:
    """Compare packets each way of every conversation either side has."""
    agreement = Agreement(tool, "conversations")
    for capture, output in expected():
        name = output["file"]
        if not (name.startswith(folder) and ends_with in name.rsplit("/", 1)[-1]):
            continue
        stated = read(PUBLIC / name)
        if stated is None:
            continue
        agreement.outputs += 1
        counted = {key: tuple(totals.packets) for key, totals in ours(capture)[0].totals.items()}
        partial = not counted.keys() <= stated.keys()
        for key in stated.keys() | counted.keys():
            agreement.stated += 1
            if stated.get(key) == counted.get(key):
                agreement.equal += 1
            else:
                _classify(agreement, Difference(capture, key, stated.get(key), counted.get(key), partial))  # type: ignore[arg-type]
    return agreement


def nfstream() -> Agreement:
    """Compare packets and octets of flows; its tables name no addresses, so equal numbers are matched."""
    agreement = Agreement("nfstream", "flows")
    for capture, output in expected():
        if not output["file"].startswith("nfstream/results/"):
            continue
        agreement.outputs += 1
        with (PUBLIC / output["file"]).open() as lines:
            stated = Counter(
                (int(row["bidirectional_packets"]), int(row["bidirectional_bytes"])) for row in csv.DictReader(lines)
            )
        counted: dict[tuple[int, int], list[Key]] = defaultdict(list)
        for key, totals in ours(capture)[0].totals.items():
            counted[sum(totals.packets), sum(totals.octets)].append(key)
        for numbers, keys in counted.items():
            equal = min(len(keys), stated[numbers])
            agreement.stated += len(keys)
            agreement.equal += equal
            for key in keys[equal:]:
                _classify(agreement, Difference(capture, key, None, numbers))
    return agreement


def pcapng_test_generator() -> Agreement:
    """Compare packets and interfaces with the block counts its notes state."""
    agreement = Agreement("pcapng-test-generator", "files")
    for capture, output in expected():
        if not (output["file"].startswith("pcapng-test-generator/") and output["file"].endswith(".txt")):
            continue
        agreement.outputs += 1
        agreement.stated += 1
        note = (PUBLIC / output["file"]).read_text()
        blocks = {name: int(n) for name, n in re.findall(r"^\s+(\w+): (\d+)", note, re.MULTILINE)}
        with open_capture(str(capture)) as reader:
            packets = sum(int((chunk.link_type != NO_LINK).sum()) for chunk in reader)
            interfaces = len(reader.interfaces)
        wanted = sum(blocks.get(name, 0) for name in ("EPB", "SPB", "PB")), blocks.get("IDB", 0)
        if (packets, interfaces) == wanted:
            agreement.equal += 1
        else:
            agreement.unexplained.append(f"{capture.name}: {(packets, interfaces)}, stated {wanted}")
    return agreement


def agreements() -> list[Agreement]:
    """All of them."""
    return [
        by_conversation("Zeek", zeek, "conn.log", "zeek"),
        by_conversation("Arkime", arkime, ".test", "arkime/"),
        nfstream(),
        pcapng_test_generator(),
    ]
