"""What TLS 1.3 shows without keys against the same handshakes decrypted: no wrong answer about a Go end."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inference", ROOT / "benchmarks" / "inference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_answer_about_a_go_end_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    inference = load()
    monkeypatch.setattr(inference, "SHARED", Path("/nowhere"))  # the repository's own recordings are enough here

    cells, handshakes, overgraded = inference.compare()

    assert handshakes["lab"] > 150
    assert overgraded == []
    assert not inference.wrong(cells)
    about_go = {cell: count for cell, count in cells.items() if cell[1] == "Go"}
    # Nearly everything is decided, too: an answer that stays open is no answer.
    for name in ("certificate_requested", "client_certificate", "alpn", "server_key", "client_key", "authorities"):
        asked = sum(count for cell, count in about_go.items() if cell[0] == name)
        left_open = sum(count for cell, count in about_go.items() if cell[0] == name and cell[3] == "open")
        assert left_open <= 0.05 * asked, name


def test_the_table_counts_what_was_compared() -> None:
    inference = load()
    from collections import Counter

    cells = Counter(
        {
            ("client_certificate", "Go", "yes", "yes"): 3,
            ("client_certificate", "Go", "no", "yes"): 1,
            ("client_certificate", "not shown to be Go", "yes", "open"): 2,
            ("alpn", "Go", "known", "wrong"): 4,
        }
    )

    text = inference.markdown(cells, Counter({"lab": 6}))

    assert "| the client sends one | Go | 3 | 0 | 0 | 0 | 1 | 0 |" in text
    assert "| the client sends one | not shown to be Go | 0 | 0 | 2 | 0 | 0 | 0 |" in text
    assert "| ALPN protocol | Go | 0 | 4 | 0 |" in text
    assert inference.wrong(cells).total() == 5
