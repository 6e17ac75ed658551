"""The same tables as pandas frames with types that fit, and as Parquet files. Only here is pandas imported.

Text is `visible`: characters that do not print are escapes, so that no lone surrogate stops Arrow and no terminal is
driven by a printed frame.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from analyzer.errors import MissingProgramError, OutputError
from analyzer.report.schema_document import CHANNEL_VERDICTS, CONNECTION_COLUMN_SCHEMAS, GRADES, SEVERITIES
from analyzer.report.tables import channel_columns, connection_columns, finding_columns, write_atomically
from analyzer.report.text import visible

if TYPE_CHECKING:
    import pandas as pd

PARTITION_COLUMNS: Final = ("vantage", "channel", "protocol")
"""What connections may be partitioned by in Parquet."""
_PARTITIONED: Final = "connections"
_MAX_NAME: Final = 255
"""Octets of a file's name that every file system takes."""
_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
PARQUET_FILES: Final = ("connections.parquet", "channels.parquet", "findings.parquet")

_CATEGORIES: Final[dict[str, Sequence[str]]] = {
    **{name: schema["enum"] for name, schema in CONNECTION_COLUMN_SCHEMAS.items() if "enum" in schema},
    "severity": SEVERITIES[::-1],
    "grade": GRADES,
    "verdict": CHANNEL_VERDICTS,
}
"""Columns of few known values, each with all of them; severities are ordered, mildest first."""
_ORDERED: Final = frozenset({"severity"})
_FEW_VALUES: Final = frozenset({"transport", "encapsulation", "channel", "protocol", "tls_version", "handshake"})
"""Columns whose values repeat; which there are is not fixed."""
_TIMES: Final = frozenset({"first_time", "last_time"})
_DATES: Final = frozenset({"suppression_expires"})
_FRAME_LISTS: Final = frozenset({"evidence_frames"})


def connections_frame(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return the connections: one row a connection, columns in the order of the contract.

    Parameters
    ----------
    document : mapping
        A report document (`analyzer.report.schema_document.Document`).

    Returns
    -------
    DataFrame, (N, C)
        ``N`` connections; the index is the row number that findings and ``leg_of`` refer to. Answers and grades are
        categories, times UTC with nanoseconds, ``evidence_frames`` lists of frame numbers in ``capture``; where a
        connection goes on in another file of a recording, texts like ``1:17``.
    """
    return _frame(connection_columns(document))


def channels_frame(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return the channels: one row a channel, the counts as ``<question>_<value>`` and ``<question>_grade_<grade>``."""
    return _frame(channel_columns(document))


def findings_frame(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return the findings: one row a finding; ``connections`` are row numbers of the connections frame."""
    return _frame(finding_columns(document))


def write_parquet(
    document: Mapping[str, Any], folder: str | os.PathLike[str], partition_by: str | None = None
) -> list[Path]:
    """Write the three frames into `folder` as Parquet, each whole or not at all.

    Parameters
    ----------
    document : mapping
    folder : path
    partition_by : str, optional
        A column of `PARTITION_COLUMNS`: the connections are then one file for each of its values, as Hive lays them out
        (``connections/vantage=node-a/part-0.parquet``). They have a further column ``connection``, the row number that
        findings name; all files have one schema.

    Returns
    -------
    list of Path
        The files; without partitions three, in the order of `PARQUET_FILES`.

    Raises
    ------
    MissingProgramError
        If pyarrow is not installed.
    OutputError
        If the folder or a file cannot be written.
    """
    try:
        import pyarrow  # noqa: F401 - pandas' own message does not say how planewire wants it installed
    except ImportError:
        raise MissingProgramError("Parquet needs pyarrow: pip install 'planewire[parquet]'") from None
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(place), error.strerror or "cannot be created") from error
    paths: list[Path] = []
    for name, frame in zip(PARQUET_FILES, (connections_frame, channels_frame, findings_frame), strict=True):
        if partition_by is not None and frame is connections_frame:
            paths += _write_partitions(connections_frame(document), place / _PARTITIONED, partition_by)
            continue
        octets = io.BytesIO()
        frame(document).to_parquet(octets, engine="pyarrow", index=False)
        paths.append(write_atomically(place / name, octets.getvalue()))
    return paths


def _write_partitions(frame: pd.DataFrame, place: Path, column: str) -> list[Path]:
    import numpy as np
    import pyarrow
    from pyarrow import parquet

    frame = frame.assign(connection=range(len(frame)))
    rows_of = frame.groupby(column, observed=True, sort=True).indices
    folders = {value: _folder(column, str(value)) for value in rows_of}
    others = {one.name for one in place.glob("*")} - set(folders.values())
    if others:
        # A reader takes all that is there for one table.
        raise OutputError(str(place), f"it holds {min(others)!r} of another run: name an empty folder")
    rest = frame.drop(columns=[column])
    # By all rows: in one partition a column may have no value that tells its type.
    schema = pyarrow.Schema.from_pandas(rest, preserve_index=False)
    paths = []
    for value, rows in rows_of.items():
        path = place / folders[value] / "part-0.parquet"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(str(path.parent), error.strerror or "cannot be created") from error
        octets = io.BytesIO()
        parquet.write_table(
            pyarrow.Table.from_pandas(rest.take(np.asarray(rows, np.int64)), schema=schema, preserve_index=False),
            octets,
        )
        paths.append(write_atomically(path, octets.getvalue()))
    return paths


def _folder(column: str, value: str) -> str:
    """Name of a partition's folder, which readers decode; a value too long for one is cut, and told apart by a hash."""
    name = f"{column}={quote(value, safe='') or _NO_VALUE}"
    if len(name) <= _MAX_NAME:
        return name
    # Letters of other scripts are three octets, or nine where they are encoded.
    name = f"{column}={''.join(c if c.isalnum() else quote(c, safe='') for c in value)}"
    if len(name.encode()) <= _MAX_NAME:
        return name
    mark = f"~{hashlib.sha256(value.encode()).hexdigest()[:16]}"
    kept = name.encode()[: _MAX_NAME - len(mark)].decode(errors="ignore")
    return re.sub("%.?$", "", kept) + mark


def _frame(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: _column(name, values) for name, values in columns.items()})


def _column(name: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - any kind of column
    import pandas as pd

    if name in _FRAME_LISTS:
        # A connection that goes on in another file of a recording has frames there: "capture:frame".
        several = any(":" in text for text in values)
        return pd.Series([[f if several else int(f) for f in text.split()] for text in values], dtype=object)
    if name in _TIMES:
        return pd.to_datetime(pd.Series(values, dtype=object), utc=True, format="ISO8601").astype("datetime64[ns, UTC]")
    if name in _DATES:
        return pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601").astype("datetime64[s]")
    if values and isinstance(values[0], list):
        lists = [[visible(v) if isinstance(v, str) else v for v in value] for value in values]
        return pd.Series(lists, dtype=object)
    if name in _CATEGORIES:
        return pd.Categorical(values, categories=list(_CATEGORIES[name]), ordered=name in _ORDERED)
    if not values or isinstance(values[0], (bool, int, float)):
        return pd.Series(values, dtype=_number(name, values))
    shown = [visible(value) if isinstance(value, str) else value for value in values]
    if name in _FEW_VALUES:
        return pd.Categorical(shown, categories=sorted(set(shown)))
    return pd.Series(shown, dtype="str")


def _number(name: str, values: Sequence[Any]) -> str:
    """Dtype of a column of numbers; of an empty column by what its schema says."""
    if values:
        return "bool" if isinstance(values[0], bool) else "float64" if isinstance(values[0], float) else "int64"
    kind = CONNECTION_COLUMN_SCHEMAS.get(name, {}).get("type")
    return {"boolean": "bool", "integer": "int64", "number": "float64"}.get(str(kind), "str")
