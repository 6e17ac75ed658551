"""The suppression file: YAML in, entries out; whatever is unknown or missing is an error that names its line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import yaml

from analyzer.cluster.catalogue import channels
from analyzer.errors import SuppressionError
from analyzer.rules.suppressions import SCOPES, Suppression, Suppressions, endpoint

TOP: Final = "suppressions"
REQUIRED: Final = ("code", "reason", "author", "expires")
_FIELDS: Final = (*REQUIRED, *SCOPES)
_MAX_ENTRIES: Final = 10_000
_MAX_OCTETS: Final = 4 << 20


def read_suppressions(text: bytes, source: str, codes: Sequence[str], as_of: date) -> Suppressions:
    """Read a suppression file (YAML; JSON is YAML too).

    Parameters
    ----------
    text : bytes
        ``suppressions:`` with a list of entries: ``code``, ``reason``, ``author``, ``expires`` and, to narrow it,
        ``channel``, ``server``, ``client``.
    source : str
        Name of the file, for errors and for the report.
    codes : sequence of str
        Codes that exist.
    as_of : date
        The day on which expiry is judged.

    Raises
    ------
    SuppressionError
        Anything unknown, missing or wrong; it names the line.
    """
    if len(text) > _MAX_OCTETS:
        raise SuppressionError(source, 0, f"holds {len(text)} octets, more than {_MAX_OCTETS}")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise SuppressionError(source, mark.line + 1 if mark else 0, f"is no YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SuppressionError(source, 0, f"is no YAML: {type(error).__name__}") from None
    if root is None:
        return Suppressions((), as_of)
    top = _mapping(root, source, (TOP,), f"a mapping with the one key {TOP!r}")
    listed = top.get(TOP)
    if not isinstance(listed, yaml.SequenceNode):
        raise SuppressionError(source, _line(listed or root), f"{TOP!r} must be a list of entries")
    if len(listed.value) > _MAX_ENTRIES:
        raise SuppressionError(source, _line(listed), f"holds more than {_MAX_ENTRIES} entries")
    return Suppressions(tuple(_entry(node, source, codes) for node in listed.value), as_of)


def _line(node: Any) -> int:  # noqa: ANN401 - yaml's nodes have no published types
    return int(node.start_mark.line) + 1


def _mapping(node: Any, source: str, known: Sequence[str], what: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(node, yaml.MappingNode):
        raise SuppressionError(source, _line(node), f"expected {what}")
    found: dict[str, Any] = {}
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name not in known:
            raise SuppressionError(source, _line(key), f"unknown field {name!r}; there are {', '.join(known)}")
        if name in found:
            raise SuppressionError(source, _line(key), f"field {name!r} stands twice")
        found[name] = value
    return found


def _entry(node: Any, source: str, codes: Sequence[str]) -> Suppression:  # noqa: ANN401
    nodes = _mapping(node, source, _FIELDS, f"an entry with the fields {', '.join(REQUIRED)}")
    texts: dict[str, str] = {}
    for name, value in nodes.items():
        if not isinstance(value, yaml.ScalarNode) or not value.value.strip():
            raise SuppressionError(source, _line(value), f"field {name!r} must be text")
        texts[name] = value.value.strip()
    for name in REQUIRED:
        if name not in texts:
            raise SuppressionError(source, _line(node), f"field {name!r} is missing")
    if texts["code"] not in codes:
        raise SuppressionError(source, _line(nodes["code"]), f"no rule {texts['code']!r}; see planewire rules")
    if "channel" in texts and texts["channel"] not in {channel.id for channel in channels()}:
        raise SuppressionError(source, _line(nodes["channel"]), f"no channel {texts['channel']!r}")
    try:
        expires = date.fromisoformat(texts["expires"])
    except ValueError:
        raise SuppressionError(
            source, _line(nodes["expires"]), f"expires must be a date like 2027-01-31, not {texts['expires']!r}"
        ) from None
    ends = {}
    for name in ("server", "client"):
        try:
            ends[name] = endpoint(texts.get(name, ""))
        except ValueError as error:
            raise SuppressionError(source, _line(nodes[name]), f"{name}: {error}") from None
    return Suppression(
        texts["code"], texts["reason"], texts["author"], expires, texts.get("channel", ""), **ends,
        source=source, line=_line(node),
    )  # fmt: skip
