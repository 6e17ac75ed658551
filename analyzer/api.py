"""The Python interface: a capture in, a report out, with pandas frames for whoever wants to ask more of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.analysis import run
from analyzer.capture.discovery import Source, open_captures
from analyzer.pipeline import Limits
from analyzer.report.document import build_document
from analyzer.report.schema_document import Document, as_document
from analyzer.user_files import load_cluster, load_keys, load_suppressions

if TYPE_CHECKING:
    import pandas as pd

PathLike = str | os.PathLike[str]


def analyze(
    capture: PathLike | Iterable[PathLike],
    *,
    cluster: PathLike | Iterable[PathLike] = (),
    expect: PathLike | None = None,
    keys: PathLike | Iterable[PathLike] = (),
    suppress: PathLike | None = None,
    as_of: date | None = None,
    fail_on: str = "high",
    head_octets: int | None = None,
) -> Report:
    """Analyse packet captures; what ``planewire analyze`` does, without writing anything.

    Parameters
    ----------
    capture : path or several
        pcap or pcapng, compressed or not; folders, patterns and tar archives of such; ``-`` is standard input.
    cluster : path or several, optional
        Files or folders of cluster facts, as ``--cluster`` takes them.
    expect : path, optional
        A communication matrix, as ``--expect`` takes it.
    keys : path or several, optional
        TLS key logs (SSLKEYLOGFILE), as ``--keys`` takes them.
    suppress : path, optional
        A suppression file, as ``--suppress`` takes it.
    as_of : date, optional
        Day on which suppressions are judged; today (UTC) if not given.
    fail_on : str
        Severity from which `Report.exit_status` is 1, or ``never``.
    head_octets : int, optional
        Octets kept of each direction of a connection.

    Raises
    ------
    PlanewireError
        The capture or a file handed over cannot be read; ``str()`` is one complete line.
    """
    context = replace(
        load_cluster(_paths(cluster), None if expect is None else os.fspath(expect)),
        suppressions=load_suppressions(None if suppress is None else os.fspath(suppress), as_of),
    )
    key_log, _ = load_keys(_paths(keys))
    limits = Limits() if head_octets is None else Limits(head_octets=head_octets)
    with open_captures([Source(path) for path in _paths(capture)]) as reader:
        return Report(as_document(build_document(run(reader, context, limits, keys=key_log), fail_on)))


def _paths(given: PathLike | Iterable[PathLike]) -> tuple[str, ...]:
    paths = [given] if isinstance(given, (str, os.PathLike)) else given
    return tuple(os.fspath(path) for path in paths)


class Report:
    """One audit: the document, its tables, and every output that can be made from it.

    Parameters
    ----------
    document : Document
        What ``--json`` writes; `Report.read` reads it from a file.

    Attributes
    ----------
    document : Document
        Everything, as plain dictionaries and lists (``analyzer/data/report.schema.json``).
    """

    def __init__(self, document: Document) -> None:
        self.document = document

    @classmethod
    def read(cls, path: PathLike) -> Report:
        """Read a report that ``planewire analyze --json`` or `to_json` wrote.

        Raises
        ------
        ReportError
            It is not a report that this version reads.
        """
        from analyzer.report.reading import read_document

        return cls(read_document(Path(path).read_bytes(), os.fspath(path)))

    @cached_property
    def connections(self) -> pd.DataFrame:
        """One row a connection; findings and ``leg_of`` name rows of it."""
        from analyzer.report.frames import connections_frame

        return connections_frame(self.document)

    @cached_property
    def channels(self) -> pd.DataFrame:
        """One row a channel, with its verdict and counts."""
        from analyzer.report.frames import channels_frame

        return channels_frame(self.document)

    @cached_property
    def findings(self) -> pd.DataFrame:
        """One row a finding, worst first."""
        from analyzer.report.frames import findings_frame

        return findings_frame(self.document)

    @property
    def exit_status(self) -> int:
        """What ``planewire analyze`` would have ended with: 0 clean, 1 findings, 4 incomplete."""
        return self.document["outcome"]["exit_status"]

    def to_json(self, path: PathLike | None = None) -> str:
        """Return the document as JSON; with a path, write it there too."""
        from analyzer.report.tables import json_text

        return _written(json_text(self.document), path)

    def to_html(self, path: PathLike | None = None) -> str:
        """Return the report as one self-contained page; with a path, write it there too."""
        from analyzer.report.html import render_html

        return _written(render_html(self.document), path)

    def to_markdown(self, path: PathLike | None = None) -> str:
        """Return the summary for a ticket; with a path, write it there too."""
        from analyzer.report.markdown import markdown_text

        return _written(markdown_text(self.document), path)

    def to_sarif(self, path: PathLike | None = None) -> str:
        """Return the findings as SARIF 2.1.0; with a path, write them there too."""
        from analyzer.report.sarif import sarif_text

        return _written(sarif_text(self.document), path)

    def to_csv(self, folder: PathLike) -> list[Path]:
        """Write ``connections.csv``, ``channels.csv`` and ``findings.csv`` into a folder."""
        from analyzer.report.tables import write_csv

        return write_csv(self.document, folder)

    def to_parquet(self, folder: PathLike, partition_by: str | None = None) -> list[Path]:
        """Write the three frames as Parquet into a folder; needs ``planewire[parquet]``.

        With ``partition_by`` (``vantage``, ``channel`` or ``protocol``) the connections are one file for each value of
        that column, as Hive lays them out.
        """
        from analyzer.report.frames import write_parquet

        return write_parquet(self.document, folder, partition_by)

    def __repr__(self) -> str:
        names = ", ".join(capture["name"] for capture in self.document["captures"])
        counts = self.document["summary"]["channels"]
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        return f"<Report of {names!r}: {said or 'no channels'}; {len(self.document['findings'])} findings>"

    def _repr_markdown_(self) -> str:
        """Return what a notebook shows."""
        return self.to_markdown()


def _written(text: str, path: PathLike | None) -> str:
    if path is not None:
        from analyzer.report.tables import write_atomically

        write_atomically(Path(path), text)
    return text
