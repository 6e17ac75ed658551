from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.cluster import documents
from analyzer.cluster.documents import (
    MAX_ALIASES,
    MAX_DEPTH,
    boolean,
    child,
    integer,
    looks_like_document,
    mapping,
    port,
    read_documents,
    sequence,
    string,
    strings,
)
from analyzer.errors import ClusterFactsError

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name}\n  <<: [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"kind": "Node"}', [{"kind": "Node"}]),
        (b' \n[{"kind": "Node"}, 7, {"kind": "Pod"}]', [{"kind": "Node"}, {"kind": "Pod"}]),
        (b"kind: Node\n---\nkind: Pod\n---\n# nothing\n---\n- a list\n", [{"kind": "Node"}, {"kind": "Pod"}]),
        (b"\xef\xbb\xbfkind: Node\n", [{"kind": "Node"}]),
        (
            b"a: 2026-13-45\nb: 1.5\nc: 0x10\nd: yes\ne: ~",
            [{"a": "2026-13-45", "b": "1.5", "c": 16, "d": True, "e": None}],
        ),
        (b"", []),
        (b"just text", []),
    ],
)
def test_documents_of_a_file(content: bytes, expected: list[Any]) -> None:
    assert read_documents("f", content) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b'{\n"kind": "Node",\n}', r"^f: line 3: is not JSON", id="JSON"),
        pytest.param(b"kind: Node\nmetadata: [\n", r"^f: line 3: is not YAML", id="YAML"),
        pytest.param(b"kind: Node\n\tb: c\n", r"^f: line 2: is not YAML", id="tab"),
        pytest.param(b"kind: !!python/object/apply:os.system [id]\n", r"^f: line 1: is not YAML", id="tag"),
        pytest.param(b"a: !!int x\n", r"^f: is YAML with a tagged value", id="value of a tag"),
        pytest.param(b"a: *b\n", r"^f: line 1: is not YAML: found undefined alias", id="alias"),
        pytest.param(b"? [a]\n: b\n? {c: d}\n: e\n", r"^f: line 1: is not YAML", id="key"),
        pytest.param(b"a: \x00b\n", r"^f: is not YAML", id="NUL"),
        pytest.param(b"kind: \xff\n", r"^f: is not UTF-8 text: octet 6", id="octets"),
        pytest.param(b"[" * 100_000, r"^f: is JSON nested deeper", id="deep JSON"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", r"^f: holds a number that is too long", id="long number"),
        pytest.param(b"a: " + b"[" * 100_000, rf"^f: line 1: more than {MAX_DEPTH} nested", id="deep YAML flow"),
        pytest.param(b"- " * 5_000 + b"a", rf"^f: line 1: more than {MAX_DEPTH} nested", id="deep YAML block"),
        pytest.param(LAUGHS.encode(), rf"^f: line 3: over {MAX_ALIASES} aliases", id="billion laughs"),
        pytest.param(MERGES.encode(), rf"^f: line \d: over {MAX_ALIASES} aliases", id="merge keys"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_file_and_line(content: bytes, reason: str) -> None:
    begun = time.process_time()
    with pytest.raises(ClusterFactsError, match=reason) as caught:
        read_documents("f", content)
    assert caught.value.path == "f"
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert time.process_time() - begun < 2


def test_the_aliases_allowed_stay_small() -> None:
    # The worst use of the aliases allowed: levels of four, each four times the one below.
    lines = ["a: &a [x]"] + [f"{n}: &{n} [{', '.join([f'*{b}'] * 4)}]" for b, n in zip("abcd", "bcde", strict=True)]
    (document,) = read_documents("f", "\n".join(lines).encode())
    assert len(json.dumps(document)) < 10_000


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_YAML", 1 << 20)
    with pytest.raises(ClusterFactsError, match="is YAML larger than 1 MiB; export it with -o json"):
        read_documents("f", b"a: " + b"x" * (1 << 20))
    assert read_documents("f", b'{"a": "' + b"x" * (1 << 20) + b'"}')
    monkeypatch.setattr(documents, "MAX_FILE", 1 << 20)
    with pytest.raises(ClusterFactsError, match="is larger than 1 MiB"):
        read_documents("f", b'{"a": "' + b"x" * (1 << 20) + b'"}')


# YAML 1.1 folds U+0085 like a line end; no Kubernetes text holds it.
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | PRINTABLE
DOCUMENTS = st.dictionaries(
    st.text("abc-./", min_size=1, max_size=8),
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3)
    ),
    max_size=5,
)


@settings(max_examples=60)
@given(DOCUMENTS)
def test_json_and_yaml_of_one_document_read_alike(document: dict[str, Any]) -> None:
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, _data: Any) -> bool:
            return True

    as_json, as_yaml = json.dumps(document).encode(), yaml.dump(document, Dumper=Dumper, allow_unicode=True).encode()
    assert read_documents("f", as_json) == [document]
    assert read_documents("f", as_yaml) == [document]


@given(st.binary(max_size=80))
def test_any_octets_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ClusterFactsError):
        assert all(isinstance(document, dict) for document in read_documents("f", content))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", b"", True),
        ("a.YML", b"", True),
        ("admin.conf", b"apiVersion: v1\nkind: Config\n", True),
        ("configz", b'{"kubeletconfig":{}}', True),
        ("nodes", b'{\n    "apiVersion": "v1",', True),
        ("nginx.conf", b"server { listen 80; }", False),
        ("README.md", b"# Notes on the kind: of cluster\n", False),
        ("a.pcap", b"\xd4\xc3\xb2\xa1", False),
    ],
)
def test_which_files_mean_to_be_documents(name: str, content: bytes, expected: bool) -> None:
    assert looks_like_document(name, content) is expected


def test_values_by_path_and_type() -> None:
    document = {"a": {"b": [1, "x", {"c": "d"}], "n": "10250", "big": 70000, "t": True, "z": 0, "s": "s"}}
    assert child(document, "a", "s") == "s"
    assert child(document, "a", "s", "more") is None
    assert child([], "a") is None
    assert mapping(document, "a", "b") == {}
    assert sequence(document, "a") == []
    assert strings(document, "a", "b") == ("x",)
    assert (string(document, "a", "n"), string(document, "a", "big"), string(document, "a", "t")) == (
        "10250",
        "70000",
        "",
    )
    assert (integer(document, "a", "n"), integer(document, "a", "t"), integer(document, "a", "s")) == (
        10250,
        None,
        None,
    )
    assert (port(document, "a", "n"), port(document, "a", "big"), port(document, "a", "z")) == (10250, None, None)
    assert (boolean(document, "a", "t"), boolean(document, "a", "n")) == (True, None)
