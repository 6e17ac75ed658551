"""Read what a user hands over beside the capture; what it means is the business of the packages below."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import ClusterFactsError, InputError, KeyLogError

if TYPE_CHECKING:
    from analyzer.analysis import ClusterContext
    from analyzer.cluster.expectation import Expectation
    from analyzer.protocols.tls.keylog import KeyLog
    from analyzer.rules.suppressions import Suppressions

MAX_FILES = 4096
_KEY_LOG_LINES = "expected lines as SSLKEYLOGFILE writes them: LABEL CLIENT_RANDOM SECRET, in hexadecimal"


def load_cluster(paths: tuple[str, ...], expect: str | None = None) -> ClusterContext:
    """Read files and folders (not their subfolders) into the context of an analysis.

    Parameters
    ----------
    paths : tuple of str
        What ``--cluster`` names.
    expect : str, optional
        Communication matrix that ``--expect`` names.

    Raises
    ------
    ClusterFactsError
        A path is missing or unreadable, a folder holds no files or too many, or a file cannot be parsed.
    """
    from analyzer.analysis import ClusterContext
    from analyzer.report.audit_result import ClusterSummary

    expectation = _expectation(Path(expect)) if expect is not None else None
    if not paths:
        if expectation is None:
            return ClusterContext()
        from analyzer.cluster.declarations import Declarations

        summary = ClusterSummary(sources=(expectation.source_file,), notes=expectation.notes)
        return ClusterContext(declared=Declarations(expectation=expectation), summary=summary)
    from analyzer.cluster.handover import declarations, declared_roles
    from analyzer.cluster.loading import read_cluster_facts

    files: dict[str, bytes] = {}
    for path in map(Path, paths):
        for member in _members(path):
            try:
                files[_name(member, files)] = member.read_bytes()
            except OSError as error:
                raise ClusterFactsError(str(member), error.strerror or str(error)) from None
    facts = read_cluster_facts(files)
    return ClusterContext(
        declared_roles(facts),
        declarations(facts, expectation),
        ClusterSummary(
            given=True,
            sources=(*facts.sources, *((expectation.source_file,) if expectation is not None else ())),
            nodes=len(facts.inventory.nodes),
            pods=len(facts.inventory.pods),
            services=len(facts.inventory.services),
            declared=tuple((s.component, s.setting, s.value, s.source_file) for s in facts.declared.settings),
            notes=(*facts.notes, *(expectation.notes if expectation is not None else ())),
        ),
        authorities=facts.authorities,
    )


def _expectation(path: Path) -> Expectation:
    from analyzer.cluster.expectation import read_expectation

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ClusterFactsError(str(path), error.strerror or str(error)) from None
    return read_expectation(content, path.name)


def _name(member: Path, taken: dict[str, bytes]) -> str:
    """The file's name, with its folder where another file of that name was handed over too."""
    return member.name if member.name not in taken else str(member)


def _members(path: Path) -> list[Path]:
    if not path.exists():
        raise ClusterFactsError(str(path), "no such file or folder")
    if not path.is_dir():
        return [path]
    members = sorted(m for m in path.iterdir() if m.is_file() and not m.name.startswith("."))
    if not members:
        raise ClusterFactsError(str(path), "is an empty folder; put kubectl output, manifests or CA certificates there")
    if len(members) > MAX_FILES:
        raise ClusterFactsError(str(path), f"holds {len(members)} files, more than {MAX_FILES}")
    return members


def load_suppressions(path: str | None, as_of: date | None = None) -> Suppressions:
    """Read a suppression file; without `as_of` it is judged on today's date in UTC.

    Raises
    ------
    InputError
        The file cannot be opened.
    SuppressionError
        It holds something unknown or wrong.
    """
    from analyzer.rules.suppressions import Suppressions

    if path is None:
        return Suppressions()
    from analyzer.rules import RULES
    from analyzer.rules.suppression_file import read_suppressions

    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise InputError(path, error.strerror or "cannot be read") from None
    # A promise with a date is kept or broken by the calendar, not by the clock of a capture.
    day = as_of or datetime.now(UTC).date()
    return read_suppressions(text, path, [rule.code for rule in RULES], day)


def load_keys(paths: tuple[str, ...]) -> tuple[KeyLog | None, list[str]]:
    """Read TLS key logs; None where no file was named. What they hold is in no message: file and line number are.

    Returns
    -------
    keys : KeyLog or None
    notes : list of str
        Lines that were passed over.

    Raises
    ------
    KeyLogError
        A file is missing, unreadable, too large, or holds no usable line.
    """
    if not paths:
        return None, []
    from analyzer.protocols.tls.keylog import MAX_KEY_LOG, KeyLog

    keys, notes = KeyLog(), []
    for path in map(Path, paths):
        try:
            if path.exists() and not path.is_file():
                raise KeyLogError(str(path), "is not a file; name a key log")
            content = path.read_bytes()
        except OSError as error:
            raise KeyLogError(str(path), error.strerror or "cannot be read") from None
        if len(content) > MAX_KEY_LOG:
            raise KeyLogError(str(path), f"is larger than {MAX_KEY_LOG} octets; keep the lines of this capture only")
        part = KeyLog(content)
        if len(part) == 0:
            where = f"line {part.first_bad_line} is none of a key log" if part.bad_lines else "holds no secret"
            raise KeyLogError(str(path), f"{where}; {_KEY_LOG_LINES}")
        if part.bad_lines:
            lines = "line is" if part.bad_lines == 1 else "lines are"
            passed = f"{part.bad_lines} {lines} none of a key log and passed over"
            notes.append(f"{path}: {passed}, the first is line {part.first_bad_line}")
        keys.add(content)
    return keys, notes
