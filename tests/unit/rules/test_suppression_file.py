"""The suppression file: what it says, and how it is refused."""

from __future__ import annotations

from datetime import date

import pytest

from analyzer.errors import SuppressionError
from analyzer.rules import RULES
from analyzer.rules.suppression_file import read_suppressions
from analyzer.rules.suppressions import Suppressions

CODES = [rule.code for rule in RULES]
FULL = """\
# Accepted by the platform team.
suppressions:
  - code: PW301
    channel: user-to-kubelet
    server: 10.0.0.0/24:10250
    client: monitoring/prometheus-*
    reason: The collector authenticates with a token (OPS-123).
    author: jane@example.org
    expires: 2026-12-31
  - {code: PW501, reason: r, author: a, expires: "2027-01-01"}
"""


def read(text: str | bytes) -> Suppressions:
    return read_suppressions(
        text.encode() if isinstance(text, str) else text, "accepted.yaml", CODES, date(2026, 12, 31)
    )


def test_an_entry_says_what_where_why_who_and_until_when() -> None:
    first, second = read(FULL).entries

    assert (first.code, first.channel, first.author, first.expires) == (
        "PW301", "user-to-kubelet", "jane@example.org", date(2026, 12, 31),
    )  # fmt: skip
    assert first.server.covers("10.0.0.12", "", 10250)
    assert not first.server.covers("10.0.0.12", "", 10255)
    assert not first.server.covers("10.0.1.12", "", 10250)
    assert first.client.covers("10.244.1.3", "monitoring/prometheus-0", 40000)
    assert not first.client.covers("10.244.1.3", "", 40000)
    assert (first.line, second.line, second.reason) == (3, 10, "r")
    assert not second.server


def test_the_last_day_still_counts() -> None:
    entries = read(FULL)
    assert entries.live() == [0, 1]
    assert Suppressions(entries.entries, date(2027, 1, 1)).live() == [1]
    assert Suppressions(entries.entries).live() == []


def test_an_empty_file_suppresses_nothing() -> None:
    assert read("").entries == ()
    assert read("suppressions: []").entries == ()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param(FULL.replace("PW301", "PW999"), 3, "no rule 'PW999'", id="unknown code"),
        pytest.param(FULL.replace("    server:", "    sever:"), 5, "unknown field 'sever'", id="unknown field"),
        pytest.param(FULL.replace("user-to-kubelet", "user-to-moon"), 4, "no channel 'user-to-moon'", id="channel"),
        pytest.param(FULL.replace("expires: 2026-12-31", "expires: soon"), 9, "a date like", id="no date"),
        pytest.param(FULL.replace("author: jane@example.org", "code: PW301"), 8, "stands twice", id="twice"),
        pytest.param(FULL.replace("    reason: The", "    # The"), 3, "'reason' is missing", id="no reason"),
        pytest.param(FULL.replace("jane@example.org", "''"), 8, "must be text", id="nobody"),
        pytest.param(FULL.replace(":10250", ":kubelet"), 5, "no port", id="port"),
        pytest.param(FULL.replace("suppressions:", "suppress:"), 2, "unknown field 'suppress'", id="other key"),
        pytest.param("suppressions: yes", 1, "must be a list", id="no list"),
        pytest.param("- code: PW301", 1, "expected a mapping", id="a list"),
        pytest.param("suppressions:\n  - PW301", 2, "expected an entry", id="no mapping"),
        pytest.param("suppressions: [", 1, "is no YAML", id="no YAML"),
        pytest.param("suppressions:\n\t- x", 2, "is no YAML", id="tab"),
        pytest.param("? {a: b}\n: c", 1, "unknown field", id="a mapping as key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(SuppressionError) as caught:
        read(text)

    assert (caught.value.line, caught.value.path, caught.value.exit_code) == (line, "accepted.yaml", 2)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"accepted.yaml: line {line}: ")


@pytest.mark.parametrize("text", [b"\xff\xfe\xfa", b"\x00\x01", b"[" * 5000, b"suppressions: \x80"])
def test_what_is_no_text_is_one_clear_line(text: bytes) -> None:
    with pytest.raises(SuppressionError, match="is no YAML"):
        read(text)
