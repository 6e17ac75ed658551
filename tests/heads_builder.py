"""Build a `StreamHeads` from plain octets, for the tests of everything that reads stream heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from analyzer.registries import HeadStop
from analyzer.schema import StreamHeads

FILLER = 0xA5
"""What stands inside holes: a value that shows when a reader reads what it must not."""


def build_heads(
    streams: Mapping[int, bytes],
    *,
    holes: Mapping[int, Sequence[tuple[int, int]]] | None = None,
    segments: Mapping[int, Sequence[tuple[int, int]]] | None = None,
    mid_connection: Collection[int] = (),
    stop: Mapping[int, HeadStop] | None = None,
    flows: int | None = None,
) -> StreamHeads:
    """Lay the octets of each stream out as the collector does.

    Parameters
    ----------
    streams : {stream: octets}
        Stream ``2 * flow`` is client to server, ``2 * flow + 1`` server to client. Streams left out are empty.
    holes : {stream: [(start, stop), ...]}
        Half-open ranges of positions that were not captured; they are overwritten with `FILLER`.
    segments : {stream: [(position, frame), ...]}
        Where each segment begins and which frame carried it. Left out: one segment at position 0 and one after each
        hole, with frame numbers counted from 1 over all streams.
    mid_connection : streams whose first octet was not captured
    stop : {stream: why the head ends}, `HeadStop.COMPLETE` where left out
    flows : number of flows; left out: as many as the highest stream needs
    """
    holes = {stream: sorted(ranges) for stream, ranges in (holes or {}).items()}
    segments, stop = segments or {}, stop or {}
    count = 2 * flows if flows is not None else 2 * (max(streams, default=-1) // 2 + 1)
    heads: list[bytes] = []
    rows: list[list[tuple[int, int]]] = []
    frame = 0
    for stream in range(count):
        head = bytearray(streams.get(stream, b""))
        begins = [0] if head else []
        for start, end in holes.get(stream, ()):
            head[start:end] = bytes([FILLER]) * (min(end, len(head)) - start)
            begins = [b for b in begins if not start <= b < end] + ([end] if end < len(head) else [])
        heads.append(bytes(head))
        rows.append(list(segments.get(stream, [(b, frame + i + 1) for i, b in enumerate(begins)])))
        frame += len(begins)
    hole_rows = [(s, a, b) for s in sorted(holes) for a, b in holes[s]]
    flat = [row for of_stream in rows for row in of_stream]
    return StreamHeads(
        octets=np.frombuffer(b"".join(heads), np.uint8),
        offsets=np.concatenate([[0], np.cumsum([len(h) for h in heads], dtype=np.int64)]).astype(np.int64),
        from_start=np.array([s not in mid_connection for s in range(count)], bool),
        stop=np.array([stop.get(s, HeadStop.COMPLETE) for s in range(count)], np.uint8),
        holes_stream=np.array([h[0] for h in hole_rows], np.int64),
        holes_start=np.array([h[1] for h in hole_rows], np.int64),
        holes_stop=np.array([h[2] for h in hole_rows], np.int64),
        segments_offsets=np.concatenate([[0], np.cumsum([len(r) for r in rows], dtype=np.int64)]).astype(np.int64),
        segment_position=np.array([p for p, _ in flat], np.int64),
        segment_frame=np.array([f for _, f in flat], np.int64),
        conflict=np.zeros(count, bool),
    )
