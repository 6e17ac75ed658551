"""From the octets of a file to the documents in it: JSON, or YAML within bounds.

Both are read before anything is known about their author. Nesting, aliases and size are bounded, because a few hundred
octets of YAML can stand for more nodes than there is memory ("billion laughs"), and deep nesting exhausts the C stack
of libyaml's composer. Values are then asked for by path and type: what is missing and what is of another type is alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from analyzer.errors import ClusterFactsError

MAX_FILE: Final = 256 << 20
"""Octets of one file; ``kubectl get -A -o json`` of 5,000 nodes and 20,000 pods stays below."""
MAX_YAML: Final = 32 << 20
"""Octets of one YAML file: some 20 seconds of parsing. Larger exports are to be JSON."""
MAX_DEPTH: Final = 100
"""Nested collections; Kubernetes objects nest below 30, and its own decoder stops at 10,000."""
MAX_ALIASES: Final = 16
"""Aliases in one YAML file. Kubernetes' tools write none; so few cannot multiply by more than some hundreds."""

_TOO_DEEP: Final = f"more than {MAX_DEPTH} nested collections"
_LIBYAML_TOO_DEEP: Final = "exceeded maximum nesting depth"
"""What the scanner of newer releases of libyaml says of its own limit of 1,000, before an event tells the depth."""

Object = Mapping[str, Any]

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAMED_AS_DOCUMENT: Final = re.compile(r"\.(?:json|ya?ml)$", re.IGNORECASE)
_KIND: Final = re.compile(rb"""^[ \t]*[{]?[ \t]*["']?(?:kind|apiVersion|kubeletconfig)["']?[ \t]*:""", re.MULTILINE)


class _Loader(_LOADER):  # type: ignore[misc, valid-type]
    """The safe loader without timestamps and floats: text stays text, and an impossible date is no error."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
    for first, resolvers in _LOADER.yaml_implicit_resolvers.items()
}


def looks_like_document(name: str, content: bytes) -> bool:
    """Whether a file means to be JSON or YAML: by its name, or because it states a kind."""
    return _NAMED_AS_DOCUMENT.search(name) is not None or _KIND.search(content[: 1 << 16]) is not None


def read_documents(name: str, content: bytes) -> list[Object]:
    """Read the documents of a JSON or YAML file; those that are not mappings are left out.

    Parameters
    ----------
    name : str
        File, for errors.
    content : bytes
        UTF-8, with or without byte order mark.

    Raises
    ------
    ClusterFactsError
        Too large, not UTF-8, not JSON or YAML (with the line), or beyond `MAX_DEPTH` or `MAX_ALIASES`.
    """
    if len(content) > MAX_FILE:
        raise ClusterFactsError(name, f"is larger than {MAX_FILE >> 20} MiB; export fewer kinds of objects")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClusterFactsError(name, f"is not UTF-8 text: octet {error.start} cannot be decoded") from None
    parsed = _read_json(name, text) if text.lstrip()[:1] in ("{", "[") else _read_yaml(name, text)
    return [document for document in parsed if isinstance(document, dict)]


def _read_json(name: str, text: str) -> list[object]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise ClusterFactsError(name, f"line {error.lineno}: is not JSON: {error.msg}") from None
    except RecursionError:
        raise ClusterFactsError(name, "is JSON nested deeper than any Kubernetes object") from None
    except ValueError:
        raise ClusterFactsError(name, "holds a number that is too long") from None
    return parsed if isinstance(parsed, list) else [parsed]


def _read_yaml(name: str, text: str) -> list[object]:
    if len(text) > MAX_YAML:
        raise ClusterFactsError(name, f"is YAML larger than {MAX_YAML >> 20} MiB; export it with -o json")
    try:
        _check_bounds(name, text)
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark is not None else ""
        if error.problem == _LIBYAML_TOO_DEEP:
            raise ClusterFactsError(name, f"{line}{_TOO_DEEP}, as no Kubernetes file has") from None
        raise ClusterFactsError(name, f"{line}is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterFactsError(name, f"is not YAML: {reason}") from None
    except (ValueError, TypeError, OverflowError):
        # Explicit tags such as !!int on text that is none: the constructors raise what int() does.
        raise ClusterFactsError(name, "is YAML with a tagged value that does not fit its tag") from None


def _check_bounds(name: str, text: str) -> None:
    """Walk the events, which takes constant memory and no recursion, before anything is built from them."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        if depth > MAX_DEPTH or aliases > MAX_ALIASES:
            what = _TOO_DEEP if depth > MAX_DEPTH else f"over {MAX_ALIASES} aliases"
            line = f"line {event.start_mark.line + 1}: " if event.start_mark is not None else ""
            raise ClusterFactsError(name, f"{line}{what}, as no Kubernetes file has")


# ------------------------------------------------------------------------------------ values by path and type


def child(document: object, *path: str) -> object:
    """Value at a path of keys; None where a key is missing or something on the way is no mapping."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def mapping(document: object, *path: str) -> Object:
    """Mapping at a path, empty where there is none."""
    value = child(document, *path)
    return value if isinstance(value, Mapping) else {}


def sequence(document: object, *path: str) -> list[Any]:
    """List at a path, empty where there is none."""
    value = child(document, *path)
    return value if isinstance(value, list) else []


def string(document: object, *path: str) -> str:
    """Text at a path, empty where there is none; numbers that YAML made of bare words are text again."""
    value = child(document, *path)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


def strings(document: object, *path: str) -> tuple[str, ...]:
    """The texts of the list at a path."""
    return tuple(item for item in sequence(document, *path) if isinstance(item, str))


def integer(document: object, *path: str) -> int | None:
    """Integer at a path, also where it is written as text; None where there is none."""
    value = child(document, *path)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def port(document: object, *path: str) -> int | None:
    """Port number at a path, None where there is none in 1 to 65535."""
    value = integer(document, *path)
    return value if value is not None and 0 < value < 65536 else None


def boolean(document: object, *path: str) -> bool | None:
    """Truth value at a path, None where there is none."""
    value = child(document, *path)
    return value if isinstance(value, bool) else None
