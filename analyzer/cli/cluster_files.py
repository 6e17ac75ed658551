"""Read the files that ``--cluster`` names; what they mean is `analyzer.cluster`'s business."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import ClusterFactsError

if TYPE_CHECKING:
    from analyzer.cluster.expectation import Expectation
    from analyzer.pipeline import ClusterContext

MAX_FILES = 4096


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
    from analyzer.pipeline import ClusterContext
    from analyzer.report.document import ClusterSummary

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
