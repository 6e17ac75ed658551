"""Rebuild what is made from the code: the README's tables, the JSON schema and the reports under ``reports/``.

Run by ``make golden``; a test compares, so that a change of the output is seen as a difference in review.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from analyzer.cluster.catalogue import channels
from analyzer.report import live_schema
from analyzer.report.schema_document import json_schema_text
from analyzer.rules import RULES

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports"
COMMANDS = ROOT / "docs" / "commands.md"
SHOWN = (
    "01-default-insecure-kubelet.pcap",
    "05-proxy-cleartext.pcap",
    "07d-konnectivity-bypass.pcap",
    "09-anonymous-kubelet.pcap",
    "15b-ipv6-proxy-cleartext.pcap",
)
"""Recordings whose reports are kept: small, and between them nearly every kind of finding."""


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows])


def generated_readme(text: str) -> str:
    """The README with its generated blocks made anew."""
    blocks = {
        "channels": _table(
            ("channel", "what", "by default"),
            [(f"`{c.id}`", c.title, c.default) for c in channels() if c.core],
        )
        + f"\n\nand {sum(not c.core for c in channels()) - 1} around them, from `etcd-peer` to `workload`.",
        "rules": _table(("code", "severity", "what"), [(f"`{r.code}`", r.severity.label, r.title) for r in RULES]),
    }
    for name, body in blocks.items():
        pattern = rf"(<!-- BEGIN generated: {name} -->\n).*?(<!-- END generated: {name} -->)"
        text = re.sub(pattern, lambda m, b=body: f"{m[1]}{b}\n{m[2]}", text, flags=re.S)  # type: ignore[misc]
    return text


def generated_rules() -> str:
    """``docs/rules.md``: every rule in full, from its record."""
    parts = [
        "# Rules",
        "Generated from the records under `analyzer/rules/` by `make golden`. A rule answers for every connection in "
        "its scope: violation, compliant, or undecidable, which beats both; a channel of which nothing was captured "
        "is not observed. CIS numbers are those of the CIS Kubernetes Benchmark 1.12.",
    ]
    for rule in RULES:
        channels_text = ", ".join(f"`{c}`" for c in rule.channels) or "all"
        flags = "".join(f"\n  - `{flag}`" for flag in rule.flags)
        lines = [
            f"- **Channels**: {channels_text}",
            f"- **Needs**: {rule.needs}",
            f"- **What is seen**: {rule.seen}",
            f"- **Why it matters**: {rule.why}",
            f"- **What to do**: {rule.remediation}{flags}",
            f"- **Limits**: {rule.limits}" if rule.limits else "",
            f"- **CIS**: {rule.cis}" if rule.cis else "",
            f"- **Wireshark**: `{rule.filter}`",
            f"- **Source**: <{rule.source}>",
        ]
        heading = f"## {rule.code} {rule.name}\n\n{rule.title}. Severity {rule.severity.label}, {rule.status}."
        parts.append("\n".join([heading, "", *filter(None, lines)]))
    return "\n\n".join(parts) + "\n"


def write_reports(folder: Path) -> None:
    """Write the reports of `SHOWN` into `folder`, as a user would from the root of the repository."""
    for name in SHOWN:
        stem = name.split(".", 1)[0]
        subprocess.run(
            [
                sys.executable, "-m", "analyzer", "analyze", f"captures/{name}",
                "--cluster", f"captures/clusters/{stem}", "--fail-on", "never", "-q",
                "--json", folder / f"{stem}.json", "--html", folder / f"{stem}.html",
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )  # fmt: skip


def main() -> None:
    """Rebuild everything."""
    from tests.golden.commands import generated_commands
    from tests.golden.screen import LIVE, generated_live

    LIVE.write_text(generated_live(LIVE.read_text()))
    readme = ROOT / "README.md"
    readme.write_text(generated_readme(readme.read_text()))
    COMMANDS.write_text(generated_commands(COMMANDS.read_text()))
    (ROOT / "analyzer" / "data" / "report.schema.json").write_text(json_schema_text())
    (ROOT / "analyzer" / "data" / "live.schema.json").write_text(live_schema.json_schema_text())
    REPORTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as fresh:
        write_reports(Path(fresh))
        for path in Path(fresh).iterdir():
            (REPORTS / path.name).write_bytes(path.read_bytes())
    (ROOT / "docs" / "rules.md").write_text(generated_rules())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
