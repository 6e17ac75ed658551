"""Scale lab recordings to any size: copies of their packets with addresses, ports, times and sequence numbers moved.

    python benchmarks/generate.py big.pcap [--packets 3000000] [--connections 50000] [SOURCE ...]

Every copy is a cluster of its own: its addresses differ from all others', so connections multiply with packets and
payloads stay real. Once there are so many connections as asked for, what follows is further traffic of those that are
there, the sequence numbers moved on. Without sources, `MIX` is scaled: TLS 1.3 and 1.2, HTTP/1, HTTP/2 and SSH. The
output is deterministic, classic pcap, microseconds, in this host's byte order; as ``-`` it goes to standard output.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from analyzer.capture.source import open_capture
from analyzer.registries import LinkType
from analyzer.schema import I64, U8

LAB: Final = Path(__file__).resolve().parents[1] / "captures"
MIX: Final = (
    ("01-default-insecure-kubelet.pcap", None),
    ("04-node-to-apiserver.pcap", None),
    ("04b-tls-bootstrap.pcap", None),
    ("05-proxy-cleartext.pcap", None),
    ("06c-ssh-interactive.pcap", None),
    ("08b-etcd-cleartext.pcap", 300),
    ("09-anonymous-kubelet.pcap", None),
    ("09b-control-plane-ports.pcap", None),
    ("10-tls12.pcap", None),
    ("13-admission-aggregation.pcap", None),
)
"""Recordings, and how many frames of each (None: all), that the figures of ``docs/performance.md`` are measured on."""

ETHERNET_HEADER: Final = 14
RECORD: Final = np.dtype([("seconds", "u4"), ("microseconds", "u4"), ("captured", "u4"), ("wire", "u4")])
_NETWORK: Final = 16 + ETHERNET_HEADER
_EPHEMERAL: Final = (32768, 28232)
"""The first port of the range that Linux takes client ports from, and how many there are (ip-sysctl)."""
_ADDRESSES: Final = 1 << 16
"""Clusters that differ in their addresses; more differ in the ports of their clients."""
_OPENS_OR_ENDS: Final = 0b111  # FIN, SYN, RST


@dataclass(frozen=True)
class Records:
    """IPv4 packets as records of a pcap file, in order of time.

    Attributes
    ----------
    octets : (B,) uint8
        Records back to back.
    start : (N,) int64
        Where each begins.
    time_ns : (N,) int64
        From the first record of its recording.
    source : (N,) int64
        Number of its recording.
    """

    octets: U8
    start: I64
    time_ns: I64
    source: I64

    def take(self, rows: I64) -> Records:
        """The chosen records, in the order given."""
        length = np.diff(self.start, append=self.octets.shape[0])
        parts = [self.octets[self.start[row] : self.start[row] + length[row]] for row in rows.tolist()]
        start = np.cumsum(length[rows]) - length[rows]
        return Records(np.concatenate(parts), start, self.time_ns[rows], self.source[rows])

    @property
    def protocol(self) -> U8:
        """The IP protocol of each: (N,) uint8."""
        return self.octets[self.start + _NETWORK + 9]

    @property
    def transport(self) -> I64:
        """Where the transport header of each begins: (N,) int64."""
        network = self.start + _NETWORK
        return network + (self.octets[network] & 15).astype(np.int64) * 4

    def connections(self) -> int:
        """Distinct address and port pairs, whichever direction."""
        at = (self.start + _NETWORK)[:, None] + np.arange(12, 20)
        transport = self.transport
        ports = np.minimum(transport[:, None] + np.arange(4), self.octets.shape[0] - 1)
        ends = np.concatenate([self.octets[at], self.octets[ports]], axis=1)
        one, other = ends[:, [0, 1, 2, 3, 8, 9]], ends[:, [4, 5, 6, 7, 10, 11]]
        pairs = {
            (source, protocol, *sorted((a.tobytes(), b.tobytes())))
            for source, protocol, a, b in zip(self.source.tolist(), self.protocol.tolist(), one, other, strict=True)
        }
        return len(pairs)


def load(sources: Iterable[tuple[Path, int | None]]) -> Records:
    """The IPv4 packets of recordings, or of their first frames; all recordings begin at the same time."""
    records: list[bytes] = []
    times: list[int] = []
    numbers: list[int] = []
    for number, (path, frames) in enumerate(sources):
        begin = len(times)
        with open_capture(str(path)) as reader:
            for chunk in reader:
                if (chunk.link_type != LinkType.ETHERNET).any():
                    raise SystemExit(f"{path}: only Ethernet captures can be scaled")
                octets = chunk.octets
                left = len(chunk) if frames is None else max(0, frames + 1 - chunk.first_frame)
                for start, captured, wire, when in zip(
                    chunk.start[:left].tolist(),
                    chunk.captured_len[:left].tolist(),
                    chunk.wire_len[:left].tolist(),
                    chunk.time_ns[:left].tolist(),
                    strict=True,
                ):
                    frame = octets[start : start + captured].tobytes()
                    if captured < 34 or frame[12:14] != b"\x08\x00":
                        continue
                    records.append(np.array([(0, 0, captured, wire)], RECORD).tobytes() + frame)
                    times.append(when)
        first = min(times[begin:], default=0)
        times[begin:] = [when - first for when in times[begin:]]
        numbers += [number] * (len(times) - begin)
    if not records:
        raise SystemExit("no IPv4 packet in what is to be scaled")
    lengths = np.array([len(r) for r in records], np.int64)
    joined = Records(
        np.frombuffer(b"".join(records), np.uint8),
        np.cumsum(lengths) - lengths,
        np.array(times, np.int64),
        np.array(numbers, np.int64),
    )
    return joined.take(np.argsort(joined.time_ns, kind="stable"))


def mixed() -> Records:
    """`MIX`, loaded."""
    return load((LAB / name, frames) for name, frames in MIX)


def without_ends(records: Records) -> Records:
    """Those of the records that neither open nor end a TCP connection."""
    flags = records.octets[np.minimum(records.transport + 13, records.octets.shape[0] - 1)]
    return records.take(np.flatnonzero((records.protocol != 6) | (flags & _OPENS_OR_ENDS == 0)))


class Copies:
    """Copies of `records`: `copy` gives one after the other."""

    def __init__(self, records: Records) -> None:
        octets, start = records.octets, records.start
        self._records = records
        self._sources = int(records.source.max()) + 1
        self._span = int(records.time_ns.max()) + 1_000_000
        self._address = start + _NETWORK + 12
        transport, protocol = records.transport, records.protocol
        tcp = protocol == 6
        ported = tcp | (protocol == 17)
        self._sequence = transport[tcp] + 4
        self._sequence_source = records.source[tcp]
        whole = self._sequence + 8 <= octets.shape[0]
        self._sequence, self._sequence_source = self._sequence[whole], self._sequence_source[whole]
        self._ports = np.concatenate([transport[ported], transport[ported] + 2])
        self._ports = self._ports[self._ports + 2 <= octets.shape[0]]
        first, number = _EPHEMERAL
        self._port = octets[self._ports].astype(np.int64) << 8 | octets[self._ports + 1]
        ephemeral = (self._port >= first) & (self._port < first + number)
        self._ports, self._port = self._ports[ephemeral], self._port[ephemeral]

    def copy(self, number: int, turn: int, place: int) -> U8:
        """The records of copy `number`, its traffic the `turn`-th, at the `place`-th time."""
        records = self._records
        block = records.octets.copy()
        copy = number * self._sources + records.source
        # The middle octets of both addresses name the cluster.
        for field in (0, 4):
            block[self._address + field + 1] ^= (copy >> 8 & 255).astype(np.uint8)
            block[self._address + field + 2] += (copy & 255).astype(np.uint8)
        beyond = number * self._sources // _ADDRESSES
        if beyond:
            first, range_ = _EPHEMERAL
            port = first + (self._port - first + beyond * 4111) % range_
            block[self._ports] = port >> 8
            block[self._ports + 1] = port & 255
        # One offset for both directions keeps sequence and acknowledgement numbers in step.
        moved = ((number * self._sources + self._sequence_source) * 37 & 255).astype(np.uint8)
        block[self._sequence] += moved
        block[self._sequence + 4] += moved
        if turn:
            # A megabyte on for each turn, so that nothing of it is at the beginning of a stream again.
            for field in (self._sequence, self._sequence + 4):
                block[field + 1] += np.uint8(turn * 16 & 255)
                block[field] += np.uint8(turn >> 4 & 255)
        when = (records.time_ns + 1_700_000_000 * 10**9 + place * (self._span // 16)) // 1000
        stamp = np.stack([when // 10**6, when % 10**6], axis=1).astype("u4")
        stamps = stamp.view(np.uint8).reshape(-1, 8)
        for column in range(8):
            block[records.start + column] = stamps[:, column]
        return block


def write_copies(out: BinaryIO, records: Records, packets: int, clusters: int | None = None) -> None:
    """Write copies until `packets` are written; from `clusters` copies on, further traffic of those."""
    copies, written = Copies(records), 0
    for place in count():
        turn, number = divmod(place, clusters) if clusters else (0, place)
        if place == clusters:
            records = without_ends(records)
            copies = Copies(records)
        take = min(packets - written, records.start.shape[0])
        if take <= 0:
            return
        block = copies.copy(number, turn, place)
        out.write(block[: records.start[take] if take < records.start.shape[0] else None].data)
        written += take


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("sources", type=Path, nargs="*", metavar="SOURCE")
    parser.add_argument("--packets", type=int, default=3_000_000)
    parser.add_argument("--connections", type=int, help="about so many, then further traffic of them (default: grow)")
    parser.add_argument("--clusters", type=int, help="the same, counted in copies of the sources")
    options = parser.parse_args()
    records = load((source, None) for source in options.sources) if options.sources else mixed()
    clusters = options.clusters
    if options.connections:
        clusters = max(1, round(options.connections / records.connections()))
    with sys.stdout.buffer if str(options.target) == "-" else options.target.open("wb") as out:
        out.write(np.array([0xA1B2C3D4], "u4").tobytes() + np.array([2, 4], "u2").tobytes())
        out.write(np.array([0, 0, 262144, LinkType.ETHERNET], "u4").tobytes())
        write_copies(out, records, options.packets, clusters)


if __name__ == "__main__":
    main()
