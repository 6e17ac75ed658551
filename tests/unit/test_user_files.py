"""What is read from files that users hand over."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from analyzer.errors import InputError
from analyzer.user_files import load_suppressions

ENTRY = "suppressions: [{code: PW301, reason: known, author: jane, expires: 2026-12-31}]"


def test_without_a_file_nothing_is_suppressed() -> None:
    assert load_suppressions(None).live() == []


def test_expiry_is_judged_by_the_calendar_unless_a_day_is_named(tmp_path: Path) -> None:
    path = tmp_path / "accepted.yaml"
    path.write_text(ENTRY)

    before = datetime.now(UTC).date()
    assert before <= (load_suppressions(str(path)).as_of or date.min) <= datetime.now(UTC).date()
    assert load_suppressions(str(path), date(2026, 12, 31)).live() == [0]
    assert load_suppressions(str(path), date(2027, 1, 1)).live() == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.yaml: No such file"):
        load_suppressions(str(tmp_path / "missing.yaml"))
