"""Scale a lab recording to any size: copies of its packets with addresses, times and sequence numbers moved.

    python benchmarks/generate.py captures/01-default-insecure-kubelet.pcap big.pcap --packets 3000000

Every copy is a cluster of its own: its addresses differ from all others', so connections multiply with packets and
payloads stay real. With ``--clusters N`` only so many copies are: later ones are further traffic of their connections,
the sequence numbers moved on. The output is deterministic, classic pcap, microseconds, in this host's byte order; as
``-`` it goes to standard output.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np

from analyzer.capture.source import open_capture
from analyzer.registries import LinkType
from analyzer.schema import I64, U8

ETHERNET_HEADER = 14
RECORD = np.dtype([("seconds", "u4"), ("microseconds", "u4"), ("captured", "u4"), ("wire", "u4")])


def load(path: Path) -> tuple[U8, I64, I64]:
    """IPv4 frames of a capture as records: octets back to back, and start and time (ns) of each."""
    records: list[bytes] = []
    times: list[int] = []
    with open_capture(str(path)) as reader:
        for chunk in reader:
            if (chunk.link_type != LinkType.ETHERNET).any():
                raise SystemExit(f"{path}: only Ethernet captures can be scaled")
            octets = chunk.octets
            for start, captured, wire, when in zip(
                chunk.start.tolist(),
                chunk.captured_len.tolist(),
                chunk.wire_len.tolist(),
                chunk.time_ns.tolist(),
                strict=True,
            ):
                frame = octets[start : start + captured].tobytes()
                if captured < 34 or frame[12:14] != b"\x08\x00":
                    continue
                head = np.array([(0, 0, captured, wire)], RECORD).tobytes()
                records.append(head + frame)
                times.append(when)
    lengths = np.array([len(r) for r in records], np.int64)
    return np.frombuffer(b"".join(records), np.uint8), np.cumsum(lengths) - lengths, np.array(times, np.int64)


_OPENS_OR_ENDS = 0b111  # FIN, SYN, RST


def without_ends(octets: U8, start: I64, times: I64) -> tuple[U8, I64, I64]:
    """The records of `load` without those TCP segments that open or end a connection."""
    network = start + 16 + ETHERNET_HEADER
    transport = network + (octets[network] & 15).astype(np.int64) * 4
    flags = octets[np.minimum(transport + 13, octets.shape[0] - 1)]
    kept = np.flatnonzero((octets[network + 9] != 6) | (flags & _OPENS_OR_ENDS == 0))
    length = np.diff(start, append=octets.shape[0])
    parts = [octets[start[row] : start[row] + length[row]] for row in kept.tolist()]
    return np.concatenate(parts), np.cumsum(length[kept]) - length[kept], times[kept]


def write_copies(out: BinaryIO, octets: U8, start: I64, times: I64, packets: int, clusters: int | None = None) -> int:
    """Write copies until `packets` are written; how many were."""
    written = _write(out, octets, start, times, packets, range(clusters) if clusters else count())
    if written < packets and clusters:
        octets, start, times = without_ends(octets, start, times)
        written += _write(out, octets, start, times, packets - written, count(clusters), clusters)
    return written


def _write(
    out: BinaryIO, octets: U8, start: I64, times: I64, packets: int, copies: Iterable[int], clusters: int | None = None
) -> int:
    written = 0
    span = int(times.max() - times.min()) + 1_000_000
    protocol = octets[start + 16 + ETHERNET_HEADER + 9]
    header_len = (octets[start + 16 + ETHERNET_HEADER] & 15).astype(np.int64) * 4
    tcp = np.flatnonzero(protocol == 6)
    sequence = start[tcp] + 16 + ETHERNET_HEADER + header_len[tcp] + 4
    sequence = sequence[sequence + 8 <= octets.shape[0]]
    for number in copies:
        if written >= packets:
            break
        turn, copy = divmod(number, clusters) if clusters else (0, number)
        block = octets.copy()
        # The middle octets of both addresses name the copy: 65,536 clusters before they repeat.
        for field in (12, 16):
            at = start + 16 + ETHERNET_HEADER + field
            block[at + 1] ^= np.uint8(copy >> 8 & 255)
            block[at + 2] += np.uint8(copy & 255)
        # One offset for both directions keeps sequence and acknowledgement numbers in step.
        block[sequence] += np.uint8(copy * 37 & 255)
        block[sequence + 4] += np.uint8(copy * 37 & 255)
        if turn:
            # A megabyte on for each turn, so that nothing of it is at the beginning of a stream again.
            for field in (sequence, sequence + 4):
                block[field + 1] += np.uint8(turn * 16 & 255)
                block[field] += np.uint8(turn >> 4 & 255)
        when = (times - times.min() + 1_700_000_000 * 10**9 + number * (span // 16)) // 1000
        stamp = np.stack([when // 10**6, when % 10**6], axis=1).astype("<u4" if sys.byteorder == "little" else ">u4")
        stamps = stamp.view(np.uint8).reshape(-1, 8)
        for column in range(8):
            block[start + column] = stamps[:, column]
        take = min(packets - written, start.shape[0])
        stop = int(start[take]) if take < start.shape[0] else block.shape[0]
        out.write(block[:stop].tobytes())
        written += take
    return written


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--packets", type=int, default=3_000_000)
    parser.add_argument("--clusters", type=int, default=None, help="copies with addresses of their own (default: all)")
    options = parser.parse_args()
    octets, start, times = load(options.source)
    with sys.stdout.buffer if str(options.target) == "-" else options.target.open("wb") as out:
        out.write(np.array([0xA1B2C3D4], "u4").tobytes() + np.array([2, 4], "u2").tobytes())
        out.write(np.array([0, 0, 262144, LinkType.ETHERNET], "u4").tobytes())
        write_copies(out, octets, start, times, options.packets, options.clusters)


if __name__ == "__main__":
    main()
