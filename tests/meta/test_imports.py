"""The house holds: a module imports only from its own package or from a lower rank."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

RANKS: dict[str, int] = {
    "errors": 0, "bounds": 0, "schema": 0, "registries": 0, "data": 0, "": 0,
    "copying": 5, "numbers": 5, "team": 5,
    "capture": 10,
    "decode": 20,
    "flows": 30,
    "protocols": 40,
    "assembly": 45,
    "partial": 46,
    "cluster": 50,
    "verdicts": 60, "rules": 65,
    "report": 70,
    "workers": 75,
    "pipeline": 80, "analysis": 81,
    "distributed": 82, "session": 82, "user_files": 82, "redaction": 82, "excerpt": 84,
    "opinions": 84,
    "api": 86,
    "cli": 90,
}  # fmt: skip
_BESIDE_FLOWS = ("flow_index", "heads", "late", "ledger", "legs", "traffic", "vantage")
PACKAGE_OF = dict.fromkeys(_BESIDE_FLOWS, "flows") | {"__main__": "cli"}
"""Modules that stand beside the package they belong with."""
SANS_IO = range(20, 70)
FORBIDDEN = {"os", "socket", "subprocess", "time", "logging", "pathlib", "sys", "random", "tempfile"}

MODULES = sorted((ROOT / "analyzer").rglob("*.py"))


def part(module: str) -> str:
    """First name below ``analyzer``: ``analyzer.decode.ip`` -> ``decode``."""
    names = module.split(".")
    name = names[1] if len(names) > 1 else ""
    return PACKAGE_OF.get(name, name)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    own = part(module_of(path))
    for name in imports(path):
        # The package offers its interface under its own name, and imports it when it is asked for.
        if (own, name) == ("", "analyzer.api"):
            continue
        if name.split(".")[0] == "analyzer" and part(name) != own:
            assert RANKS[part(name)] < RANKS[own], f"{path} imports {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if RANKS[part(module_of(p))] in SANS_IO], ids=module_of)
def test_the_middle_ranks_touch_nothing_outside(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN
    called = {
        n.func.id
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not called & {"open", "print", "input"}


def test_help_imports_none_of_the_heavy_libraries() -> None:
    import subprocess
    import sys

    script = (
        "import sys\n"
        "from analyzer.cli import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'scapy', 'dpkt', 'pyshark', 'cryptography', 'yaml', 'jinja2', 'rich',\n"
        " 'prometheus_client', 'analyzer.session'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BUDGET = 450
"""Modules that one plain analysis may load, the standard library's and numpy's included: 419 when this was written."""
NOT_NEEDED = {
    *("pandas", "scapy", "dpkt", "pyshark", "yaml", "rich", "jinja2", "pyarrow", "numba", "cryptography", "hpack"),
    *("prometheus_client", "multiprocessing", "concurrent", "asyncio", "subprocess", "tarfile", "ssl", "http"),
    *("numpy.random", "numpy.testing", "numpy.f2py", "numpy.ma"),
    *("analyzer.opinions", "analyzer.session", "analyzer.report.html", "analyzer.cluster.declared"),
}
"""What a capture without a readable certificate and without HTTP/2 in clear, and a report as JSON, have no use for."""


def test_a_plain_analysis_loads_what_it_uses_and_no_more(tmp_path: Path) -> None:
    import subprocess
    import sys

    capture, report = ROOT / "captures" / "05-proxy-cleartext.pcap", tmp_path / "report.json"
    command = [sys.executable, "-X", "importtime", "-m", "analyzer", "analyze", "-q", str(capture)]
    done = subprocess.run(
        [*command, "--json", str(report), "--fail-on", "never"], capture_output=True, text=True, check=True, cwd=ROOT
    )

    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"numpy", "analyzer.analysis"} <= loaded
    assert not loaded & NOT_NEEDED
    assert len(loaded) <= BUDGET
