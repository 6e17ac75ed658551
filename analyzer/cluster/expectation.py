"""Which ports may be reached on nodes: the communication matrix that ``oc commatrix generate`` writes.

Format: CSV with the header ``Direction,Protocol,Port,Namespace,Service,Pod,Container,Node Role,Optional``
(https://github.com/openshift-kni/commatrix). One such file can be written by hand for any cluster.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from analyzer.decode.transport import TCP, UDP
from analyzer.errors import ClusterFactsError

MAX_OCTETS: Final = 16 << 20
MAX_ROWS: Final = 100_000
"""Rows of one matrix; OpenShift's have some hundreds."""

_PROTOCOLS: Final = {"TCP": TCP, "UDP": UDP}
_ROLES: Final = {
    "": "",
    "master": "master",
    "control-plane": "master",
    "controlplane": "master",
    "worker": "worker",
    "node": "worker",
}
"""Node roles as the matrix and Kubernetes name them; any other one is a pool of workers of its own (arbiter, infra)."""
_REQUIRED: Final = ("direction", "protocol", "port")
_ROLE_COLUMNS: Final = ("node role", "noderole", "nodegroup")


@dataclass(frozen=True, slots=True)
class ExpectedPorts:
    """A range of ports, both ends included, that nodes of `role` (empty: all nodes) may be reached on."""

    protocol: int
    first: int
    last: int
    role: str
    service: str


@dataclass(frozen=True, slots=True)
class Expectation:
    """The matrix as read; ``notes`` name the rows that were passed over."""

    source_file: str
    ports: tuple[ExpectedPorts, ...] = ()
    notes: tuple[str, ...] = ()

    def allows(self, protocol: int, port: int, roles: frozenset[str]) -> bool:
        """Whether a node that has `roles` (``master``, ``worker``) may be reached on a port."""
        return any(
            row.protocol == protocol and row.first <= port <= row.last and (not row.role or row.role in roles)
            for row in self.ports
        )


def read_expectation(content: bytes, source_file: str) -> Expectation:
    """Read a communication matrix.

    Raises
    ------
    ClusterFactsError
        Not text, not CSV with the three columns that matter, a port that is none (with its line), or too large.
    """
    if len(content) > MAX_OCTETS:
        raise ClusterFactsError(source_file, f"is larger than {MAX_OCTETS >> 20} MiB, as no communication matrix is")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClusterFactsError(source_file, f"is not UTF-8 text: octet {error.start} cannot be decoded") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in _REQUIRED if name not in header]
        if missing:
            raise ClusterFactsError(
                source_file,
                f"line 1: has no column {missing[0]}; expected the header that oc commatrix generate writes",
            )
        return _read_rows(reader, header, source_file)
    except csv.Error as error:
        raise ClusterFactsError(source_file, f"line {reader.line_num}: is not CSV: {error}") from None


def _read_rows(reader: Iterable[list[str]], header: list[str], source_file: str) -> Expectation:
    role_column = next((name for name in _ROLE_COLUMNS if name in header), "")
    ports: list[ExpectedPorts] = []
    notes: list[str] = []
    for number, cells in enumerate(reader):
        if number >= MAX_ROWS:
            raise ClusterFactsError(source_file, f"has more than {MAX_ROWS} rows, as no communication matrix has")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        line = f"{source_file}: line {number + 2}"
        if not any(row.values()) or row["direction"].lower() != "ingress":
            if any(row.values()):
                notes.append(f"{line}: only ingress is compared, not used")
            continue
        protocol = _PROTOCOLS.get(row.get("protocol", "").upper())
        if protocol is None:
            notes.append(f"{line}: protocol {row.get('protocol', '')!r} is neither TCP nor UDP, not used")
            continue
        first, last = _range(row.get("port", ""), number + 2, source_file)
        role = row.get(role_column, "").lower()
        ports.append(ExpectedPorts(protocol, first, last, _ROLES.get(role, "worker"), row.get("service", "")))
    return Expectation(source_file, tuple(dict.fromkeys(ports)), tuple(notes))


def _range(text: str, line: int, source_file: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    numbers = [int(part) if part.isascii() and part.isdigit() and len(part) < 6 else 0 for part in (low, high or low)]
    if not all(0 < number < 65536 for number in numbers) or numbers[0] > numbers[1] or (dash and not high):
        raise ClusterFactsError(source_file, f"line {line}: {text[:40]!r} is neither a port nor a range of ports")
    return numbers[0], numbers[1]
