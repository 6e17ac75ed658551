"""Public captures read once for all tests of a process, and looked up by the addresses other programs name."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from analyzer.capture.source import open_capture
from analyzer.cluster.roles import address_text
from analyzer.errors import PlanewireError
from analyzer.pipeline import Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Protocol
from analyzer.schema import U8
from tests.conftest import SHARED

PUBLIC = SHARED / "public"
TEXTS = ("sni", "alpn", "alpn_offered", "ja3", "ja3s", "ja4", "unclear")
Key = tuple[str, int, str, int]


@dataclass(frozen=True)
class Reading:
    """The evidence of a capture, and what each connection's sides begin with."""

    evidence: Evidence
    by_key: dict[Key, list[int]]
    by_ports: dict[tuple[int, int], list[int]]
    texts: dict[str, list[str]]
    opening: list[tuple[U8, U8]]
    lost_start: list[bool]

    def rows(self, key: Key) -> list[int]:
        """Connections between two ends, whichever way round; by ports alone where another program names a tunnel's."""
        return self.by_key.get(key) or self.by_ports.get((key[1], key[3]), [])

    def tls_rows(self, key: Key) -> list[int]:
        return [row for row in self.rows(key) if self.evidence.tls_row[row] >= 0]

    def number(self, name: str, row: int) -> int:
        return int(self.evidence.tls_column(name, -1)[row])

    def is_tls(self, row: int) -> bool:
        return bool(self.evidence.identification.protocol[row] == Protocol.TLS)


@cache
def reading(name: str) -> Reading | None:
    """None where the capture is refused."""
    pipeline = Pipeline()
    try:
        with open_capture(str(PUBLIC / name)) as reader:
            for chunk in reader:
                for key_log in reader.secrets:
                    pipeline.use_secrets(key_log)
                pipeline.add(chunk)
    except PlanewireError:
        return None
    evidence = pipeline.evidence()
    table, streams = pipeline.flows.finish(np.arange(len(pipeline.flows)))
    heads = pipeline.heads.assemble(streams.reshape(-1))
    by_key: dict[Key, list[int]] = defaultdict(list)
    by_ports: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in range(len(evidence)):
        ends = [address_text(a) for a in evidence.flows.address[row]]
        ports = evidence.flows.port[row].tolist()
        for one, other in ((0, 1), (1, 0)):
            by_key[ends[one], ports[one], ends[other], ports[other]].append(row)
            by_ports[ports[one], ports[other]].append(row)
    # Connections read inside others (CONNECT, konnectivity) stand behind those of the capture, and have no heads.
    inside = len(evidence) - len(table)
    nothing_known = (np.empty(0, np.uint8), np.empty(0, np.uint8))
    syn_seen = table.syn_seq >= 0
    nothing = (np.diff(heads.offsets).reshape(-1, 2) == 0) & (table.payload_octets > 0)
    syn_without_start = syn_seen & (~heads.from_start.reshape(-1, 2) | nothing)
    return Reading(
        evidence,
        by_key,
        by_ports,
        {name: evidence.tls_text(name) for name in TEXTS},
        [(heads.head(2 * row)[:16].copy(), heads.head(2 * row + 1)[:16].copy()) for row in range(len(table))]
        + [nothing_known] * inside,
        syn_without_start.any(axis=1).tolist() + [False] * inside,
    )


def begins_with_a_hello(found: Reading, row: int) -> bool:
    """Whether a side's first octets are a TLS handshake record: else the hello stands inside something else."""
    return any(bool(side.shape[0] >= 6 and side[0] == 22 and side[1] == 3) for side in found.opening[row])


def manifest_pairs(folder: str, suffix: str) -> list[tuple[str, str]]:
    """(capture, expected output) of every capture of `folder` that has one ending so."""
    import json

    listed = PUBLIC / "manifest.json"
    entries: list[dict[str, Any]] = json.loads(listed.read_text()) if listed.is_file() else []
    return sorted(
        (entry["file"], expected["file"])
        for entry in entries
        if entry["file"].startswith(folder)
        for expected in entry["expected_all"]
        if expected["file"].endswith(suffix) and (PUBLIC / expected["file"]).exists()
    )
