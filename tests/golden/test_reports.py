from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.rebuild import REPORTS, SHOWN, write_reports


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    write_reports(folder)
    return folder


@pytest.mark.parametrize("stem", [name.split(".", 1)[0] for name in SHOWN])
@pytest.mark.parametrize("kind", ["json", "html"])
def test_reports_are_what_the_program_writes_today(fresh: Path, stem: str, kind: str) -> None:
    name = f"{stem}.{kind}"
    assert (REPORTS / name).read_bytes() == (fresh / name).read_bytes(), "run `make golden` and read the difference"


def test_nothing_else_lies_there() -> None:
    kept = {p.name for p in REPORTS.iterdir()} - {"README.md"}
    assert kept == {f"{name.split('.', 1)[0]}.{kind}" for name in SHOWN for kind in ("json", "html")}
