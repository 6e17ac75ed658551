"""How a live session holds out: CPU, memory and latency under traffic that never ends, and always new connections.

    python benchmarks/soak.py --rate 20000 --minutes 30            paced, as packets would come
    python benchmarks/soak.py --rate 1000 --hours 72 --fast        days of capture time, as fast as they can be read
    python benchmarks/soak.py --rate 20000 --minutes 30 --send veth0 --watch PID
    python benchmarks/soak.py --rate 1000 --minutes 5 --flood 20000 --most 50000

One cluster of lab recordings talks for ever: connections that end in the recordings come again and again from other
client ports, those that stay open go on sending, and some pairs of UDP ports speak again long after they were over.
With ``--flood`` there are SYNs besides, so many a second and each from another address. Packets are made in numpy and
handed to a `LiveSession` in this process; its CPU time is taken around its calls alone. With ``--send`` they go out at
an interface instead (it must be up, with an MTU of 65535), and what is measured is the process that watches them, such
as ``planewire live -i veth1``. Every row printed is one interval; the last lines are the summary.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import struct
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from generate import ETHERNET_HEADER, LAB, MIX, load  # noqa: E402

from analyzer.decode import Decoder  # noqa: E402
from analyzer.flows import FIN, RST, SYN, FlowBuilder  # noqa: E402
from analyzer.registries import LinkType  # noqa: E402
from analyzer.schema import I64, U8, CaptureChunk, Mask  # noqa: E402
from analyzer.session import Ageing, LiveSession  # noqa: E402

_RECORD_HEADER: Final = 16
_EPHEMERAL: Final = 32768
_PORTS: Final = 28000
_LONG_STEP: Final = 1 << 20
"""Octets by which the streams of connections that stay open go on from one copy to the next."""
_PAIRS: Final = 16
"""Pairs of UDP ports, the same for ever."""
_PAIR_SILENT_S: Final = 60
"""Seconds after which the first of them speaks again; each other waits as many longer than the one before."""


@dataclass(frozen=True)
class Recording:
    """Packets of one cluster: octets without record headers, and of each packet what its copies need."""

    octets: U8
    start: I64
    length: I64
    sequence: I64  # offset of the TCP sequence number, -1 = none
    source_port: I64  # offset of the ports of packets whose connection comes again from another port, -1 = of others
    again: Mask  # of connections that stay open: carries what may come again
    ephemeral: U8  # 0: the source port is the client's, 1: the destination port
    pair: I64  # which pair of UDP ports that speaks again and again, -1 = none of them


def datagrams() -> list[bytes]:
    """One of each pair of UDP ports."""
    ethernet = bytes.fromhex("020000000001020000000002") + b"\x08\x00"
    return [
        ethernet
        + struct.pack(">BBHHHBBH4s4s", 0x45, 0, 60, 1, 0, 64, 17, 0, bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]))
        + struct.pack(">HHHH", 20000 + pair, 53, 40, 0)
        + bytes(32)
        for pair in range(_PAIRS)
    ]


def prepare() -> Recording:
    """Read the recordings of `MIX`; connections that were joined in their middle are left out."""
    records = load([(LAB / name, frames) for name, frames in MIX])
    octets, start = records.octets, records.start + _RECORD_HEADER
    length = np.diff(records.start, append=octets.shape[0]) - _RECORD_HEADER
    flows = FlowBuilder()
    chunk = _chunk(octets, start, length, np.arange(length.shape[0]) + 1, 1)
    packets = Decoder().decode(chunk)
    rows = flows.add(packets, octets)
    state = flows.state
    count = len(flows)
    tcp = flows.protocols(np.arange(count)) == 6
    opened = (state.syn_seq[:count] >= 0).any(axis=1)
    ends = ((state.flags[:count] & (FIN | RST)) != 0).any(axis=1)
    flow = np.full(length.shape[0], -1, np.int64)
    flow[packets.frame[rows.packet] - 1] = rows.flow
    kept = np.flatnonzero((flow >= 0) & (~tcp | opened)[flow])
    flow = flow[kept]
    is_tcp, stays = tcp[flow], (tcp & ~ends)[flow]
    network = start[kept] + ETHERNET_HEADER
    transport = network + (octets[network] & 15).astype(np.int64) * 4
    flags = octets[np.minimum(transport + 13, octets.shape[0] - 1)]
    low = octets[transport].astype(np.int64) << 8 | octets[transport + 1]
    more = datagrams()
    own = np.array([len(datagram) for datagram in more])
    none = np.full(_PAIRS, -1, np.int64)
    return Recording(
        np.concatenate([octets, np.frombuffer(b"".join(more), np.uint8)]),
        np.concatenate([start[kept], octets.shape[0] + np.cumsum(own) - own]),
        np.concatenate([length[kept], own]),
        np.concatenate([np.where(is_tcp, transport + 4, -1), none]),
        np.concatenate([np.where(stays, -1, transport), none]),
        np.concatenate([stays & (flags & (SYN | FIN | RST) == 0), none >= 0]),
        np.concatenate([low < _EPHEMERAL, none >= 0]).astype(np.uint8),
        np.concatenate([np.full(kept.shape[0], -1), np.arange(_PAIRS)]),
    )


def _chunk(octets: U8, start: I64, length: I64, time_ns: I64, first_frame: int) -> CaptureChunk:
    n = start.shape[0]
    link = np.full(n, LinkType.ETHERNET, np.int32)
    return CaptureChunk(octets, start, length, length, time_ns, np.zeros(n, np.int32), link, first_frame)


class Endless:
    """Packets for ever, so many at a time."""

    def __init__(self, recording: Recording, rate: float, begin_ns: int) -> None:
        self._recording, self._rate, self._begin_ns = recording, rate, begin_ns
        self._copy = 0
        self._at = 0
        self._sent = 0
        self._spoke_s = np.full(_PAIRS, -np.inf)  # when each pair of UDP ports spoke last
        self._octets, self._rows = self._make()

    def _make(self) -> tuple[U8, I64]:
        """Octets of the next copy, and which packets it has."""
        recording, copy = self._recording, self._copy
        octets = recording.octets.copy()
        ported = np.flatnonzero(recording.source_port >= 0)
        at = recording.source_port[ported] + 2 * recording.ephemeral[ported].astype(np.int64)
        port = octets[at].astype(np.int64) << 8 | octets[at + 1]
        client = port >= _EPHEMERAL
        at, port = at[client], port[client]
        port = _EPHEMERAL + (port - _EPHEMERAL + copy * 97) % _PORTS
        octets[at], octets[at + 1] = (port >> 8).astype(np.uint8), (port & 255).astype(np.uint8)
        tcp = np.flatnonzero(recording.sequence >= 0)
        step = np.where(recording.source_port[tcp] >= 0, copy * 1_000_003, copy * _LONG_STEP)
        for field in (0, 4):
            word = octets[recording.sequence[tcp, None] + field + np.arange(4)].astype(np.int64)
            value = ((word @ [1 << 24, 1 << 16, 1 << 8, 1]) + step) & 0xFFFFFFFF
            for i, shift in enumerate((24, 16, 8, 0)):
                octets[recording.sequence[tcp] + field + i] = (value >> shift & 255).astype(np.uint8)
        rows = np.arange(recording.start.shape[0])
        if copy:
            rows = rows[(recording.source_port >= 0) | recording.again | (recording.pair >= 0)]
        now_s = self._sent / self._rate
        speaks = now_s - self._spoke_s > _PAIR_SILENT_S * np.arange(1, _PAIRS + 1)
        self._spoke_s[speaks] = now_s
        rows = rows[(recording.pair[rows] < 0) | speaks[recording.pair[rows]]]
        self._copy += 1
        return octets, rows

    def take(self, count: int) -> list[CaptureChunk]:
        """The next `count` packets."""
        chunks = []
        while count:
            rows = self._rows[self._at : self._at + count]
            number = self._sent + np.arange(rows.shape[0])
            times = self._begin_ns + (number * (1e9 / self._rate)).astype(np.int64)
            recording = self._recording
            chunks.append(_chunk(self._octets, recording.start[rows], recording.length[rows], times, self._sent + 1))
            count -= rows.shape[0]
            self._at += rows.shape[0]
            self._sent += rows.shape[0]
            if self._at == self._rows.shape[0]:
                self._octets, self._rows = self._make()
                self._at = 0
        return chunks


class Flood:
    """SYNs, each from another address, to one port."""

    def __init__(self, rate: int, begin_ns: int) -> None:
        self._rate, self._begin_ns = rate, begin_ns
        self._sent = 0
        segment = struct.pack(">HHIIBBHHH", 40000, 10250, 1, 0, 0x50, SYN, 65535, 0, 0)
        network = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, bytes(4), bytes([10, 9, 0, 2]))
        ethernet = bytes.fromhex("020000000001020000000002") + b"\x08\x00"
        self._packet = np.frombuffer(ethernet + network + segment, np.uint8)

    def take(self, count: int, first_frame: int) -> CaptureChunk:
        """The next `count`, the first of them with this frame number."""
        packets = np.tile(self._packet, (count, 1))
        number = self._sent + np.arange(count)
        source = ETHERNET_HEADER + 12
        packets[:, source : source + 4] = (11 << 24 | number)[:, None] >> np.array([24, 16, 8, 0]) & 255
        # Or they would be taken for one connection, seen behind many translators.
        packets[:, source + 8 : source + 10] = (1024 + number % 50000)[:, None] >> np.array([8, 0]) & 255
        packets[:, source + 12 : source + 16] = (number * 2654435761)[:, None] >> np.array([24, 16, 8, 0]) & 255
        self._sent += count
        length = np.full(count, self._packet.shape[0])
        times = self._begin_ns + (number * (1e9 / self._rate)).astype(np.int64)
        return _chunk(packets.reshape(-1), np.arange(count) * length, length, times, first_frame)


def resident(process: int | None = None) -> int:
    """Octets of memory a process has in use, this one if none is given."""
    return int(Path(f"/proc/{process or 'self'}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000, help="packets a second of capture time")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--fast", action="store_true", help="do not wait for the time to pass")
    parser.add_argument("--poll", type=float, default=0.1, help="seconds of packets handed over at a time")
    parser.add_argument("--tick", type=float, default=0.5, help="seconds between two looks")
    parser.add_argument("--rows", type=int, default=20, help="intervals printed")
    parser.add_argument("--retain", type=int, default=Ageing().retain)
    parser.add_argument("--stand-ins", type=int, default=Ageing().stand_ins)
    parser.add_argument("--most", type=int, default=Ageing().most)
    parser.add_argument("--flood", type=int, default=0, metavar="RATE", help="SYNs a second besides, not with --send")
    parser.add_argument("--send", metavar="INTERFACE", help="send the packets there")
    parser.add_argument("--watch", type=int, metavar="PID", help="with --send: the process to measure")
    options = parser.parse_args()
    seconds = options.minutes * 60 + options.hours * 3600
    recording = prepare()
    endless = Endless(recording, options.rate, time.time_ns())
    if options.send:
        send(endless, options, seconds)
        return
    session = LiveSession(ageing=Ageing(retain=options.retain, stand_ins=options.stand_ins, most=options.most))
    run(session, endless, options, seconds)


def run(session: LiveSession, endless: Endless, options: argparse.Namespace, seconds: float) -> None:
    """Feed the session and print what it took."""
    begin = time.monotonic()
    wall_ns = time.time_ns()
    flood, frames = Flood(max(options.flood, 1), wall_ns), 0
    cpu = row_cpu = 0.0
    ticks: list[float] = []
    ages: list[float] = []
    memory: list[tuple[float, int]] = []
    past, next_tick, next_row = 0.0, options.tick, seconds / options.rows
    print("| time s | connections | held | open | aged out | CPU % | resident MB | slowest look ms | verdicts s |")
    print("|---|---|---|---|---|---|---|---|---|")
    row_from, row_ticks, row_ages = 0.0, 0, 0
    view = None
    while past < seconds:
        chunks = endless.take(int(options.rate * options.poll))
        if options.flood:
            # Numbered anew where both come.
            chunks.append(flood.take(int(options.flood * options.poll), 0))
            before = np.cumsum([frames, *map(len, chunks)]).tolist()
            chunks = [replace(chunk, first_frame=1 + first) for chunk, first in zip(chunks, before, strict=False)]
            frames = before[-1]
        past += options.poll
        if not options.fast:
            time.sleep(max(begin + past - time.monotonic(), 0))
        started = time.thread_time()
        for chunk in chunks:
            session.add(chunk)
        cpu += time.thread_time() - started
        if past >= next_tick - 1e-9:
            next_tick += options.tick
            started, clock = time.thread_time(), time.monotonic()
            view = session.tick(wall_ns + int(past * 1e9))
            ticks.append(time.monotonic() - clock)
            cpu += time.thread_time() - started
            ages.append((view.time_ns - view.concluded_ns) / 1e9)
        if past >= next_row - 1e-9 and view is not None:
            next_row += seconds / options.rows
            memory.append((past, resident()))
            share = (cpu - row_cpu) / (past - row_from) * 100
            total = sum(channel.connections for channel in view.channels)
            print(
                f"| {past:,.0f} | {total:,} | {view.retained_connections:,} | {view.open_connections:,} | "
                f"{view.aged_out:,} | {share:.1f} | {memory[-1][1] / 1e6:.0f} | "
                f"{max(ticks[row_ticks:]) * 1e3:.0f} | {max(ages[row_ages:]):.1f} |",
                flush=True,
            )
            row_cpu, row_from, row_ticks, row_ages = cpu, past, len(ticks), len(ages)
    took = time.monotonic() - begin
    print(
        f"\n{options.rate:,} packets a second for {seconds:,.0f} s of capture time ({took:,.0f} s of wall time): "
        f"CPU {cpu / seconds * 100:.1f} % of a core by capture time; looks took {np.median(ticks) * 1e3:.0f} ms "
        f"(median), {np.quantile(ticks, 0.99) * 1e3:.0f} ms (99 %), {max(ticks) * 1e3:.0f} ms (most); verdicts were at "
        f"most {max(ages):.1f} s old; {growth(memory)}; at its peak it was "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f} MB."
    )


def growth(memory: list[tuple[float, int]]) -> str:
    """How memory went over the last two thirds of the time."""
    later = np.array(memory[len(memory) // 3 :], np.float64)
    if later.shape[0] < 3:
        return "too short to say how memory grows"
    fit = np.polyfit(later[:, 0], later[:, 1], 1)
    apart = float(np.std(later[:, 1] - np.polyval(fit, later[:, 0])))
    return (
        f"memory over the last two thirds: {later[:, 1].mean() / 1e6:.0f} MB on average, {later[:, 1].min() / 1e6:.0f} "
        f"to {later[:, 1].max() / 1e6:.0f} MB, {fit[0] * 3600 / 1e6:+.1f} MB an hour by a straight line that the "
        f"values are {apart / 1e6:.1f} MB away from"
    )


def send(endless: Endless, options: argparse.Namespace, seconds: float) -> None:
    """Send the packets at their pace, and print what the process that is watched takes."""
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((options.send, 0))
    begin = time.monotonic()
    past, sent, next_row = 0.0, 0, 0.0
    memory: list[tuple[float, int]] = []
    row = (0.0, spent(options.watch)) if options.watch else (0.0, 0.0)
    first = row
    print("| time s | sent | CPU % | resident MB |\n|---|---|---|---|")
    while past < seconds:
        past += 0.02
        for chunk in endless.take(int(options.rate * past) - sent):
            octets = memoryview(chunk.octets)
            for start, length in zip(chunk.start.tolist(), chunk.captured_len.tolist(), strict=True):
                out.send(octets[start : start + length])
            sent += len(chunk)
        time.sleep(max(begin + past - time.monotonic(), 0))
        if past >= next_row and options.watch:
            next_row += seconds / options.rows
            now, cpu = time.monotonic() - begin, spent(options.watch)
            memory.append((now, resident(options.watch)))
            share = (cpu - row[1]) / max(now - row[0], 1e-9) * 100 if now > 1 else 0
            print(f"| {now:,.0f} | {sent:,} | {share:.1f} | {memory[-1][1] / 1e6:.0f} |", flush=True)
            row = (now, cpu)
    took = time.monotonic() - begin
    print(f"\n{sent:,} packets sent in {took:,.1f} s, {sent / took:,.0f} a second.")
    if options.watch:
        share = (row[1] - first[1]) / (row[0] - first[0]) * 100
        print(f"CPU {share:.1f} % of a core; {growth(memory)}.")


def spent(process: int) -> float:
    """CPU seconds a process has taken, user and system, all threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
