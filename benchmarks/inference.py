"""What TLS 1.3 shows without keys, against what it is: every handshake whose truth is known, as Markdown.

    python benchmarks/inference.py [--write]

The truth is the same handshake decrypted: with the key logs of the lab, and with the secrets that public captures
carry. Each is read twice, with and without keys, and the answers are set side by side, apart for ends that are shown to
be Go and ends that are not. `--write` puts the tables into ``docs/tls13-inference.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from analyzer.capture.source import open_capture
from analyzer.errors import PlanewireError
from analyzer.pipeline import Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.protocols.tls.stacks import Stack
from analyzer.registries import Grade, Ternary, TlsVersion

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "captures"
DOCUMENT = ROOT / "docs" / "tls13-inference.md"
BEGIN, END = "<!-- BEGIN generated: matrix -->", "<!-- END generated: matrix -->"

# What is inferred, in words, and the end whose library it rests on.
QUESTIONS = {
    "certificate_requested": ("the server asks for a client certificate", "server"),
    "client_certificate": ("the client sends one", "client"),
    "server_self_made": ("the server made its certificate itself", "server"),
    "refused": ("the client refuses the server's certificate", "client"),
}
VALUES = {
    "alpn": ("ALPN protocol", "server"),
    "server_key": ("type of the server's key", "server"),
    "client_key": ("type of the client's key", "client"),
    "authorities": ("number of CAs named", "server"),
}
WORDS = {int(Ternary.UNKNOWN): "open", int(Ternary.NO): "no", int(Ternary.YES): "yes"}

Cell = tuple[str, str, str, str]  #: question, library, truth, answer


def captures() -> Iterator[Path]:
    """Every capture that is here."""
    folders = [SHARED / "k8s", SHARED / "public"] if SHARED.is_dir() else [ROOT / "captures"]
    for folder in folders:
        yield from sorted(p for p in folder.rglob("*") if p.is_file() and ".pcap" in p.name)


def key_logs() -> bytes:
    """All key logs beside the captures."""
    folders = [SHARED] if SHARED.is_dir() else [ROOT / "captures"]
    names = ("keys.log", "premaster.txt", "keylogfile.log", "keys.txt")
    found = [p for folder in folders for p in folder.rglob("*") if p.name.endswith(names)]
    return b"\n".join(p.read_bytes() for p in sorted(found))


def read(path: Path, keys: KeyLog | None) -> Evidence | None:
    """Evidence of one capture; with `keys`, also with the secrets that the capture holds."""
    pipeline = Pipeline(None, keys)
    try:
        with open_capture(str(path)) as reader:
            used = 0
            for chunk in reader:
                for secret in reader.secrets[used:] if keys is not None else []:
                    pipeline.use_secrets(secret)
                used = len(reader.secrets)
                pipeline.add(chunk)
    except PlanewireError:
        return None
    return pipeline.evidence() if len(pipeline.flows) else None


def compare() -> tuple[Counter[Cell], Counter[str], list[str]]:
    """Cells of the matrix, handshakes by where they come from, and answers above their grade."""
    cells: Counter[Cell] = Counter()
    handshakes: Counter[str] = Counter()
    overgraded: list[str] = []
    logs = key_logs()
    for path in captures():
        truth = read(path, KeyLog(logs))
        if truth is None:
            continue
        known = truth.tls_is("decrypted", Ternary.YES) & (truth.tls_column("version") == TlsVersion.TLS_1_3)
        rows = np.flatnonzero(known).tolist()
        answers = read(path, None) if rows else None
        if answers is None:
            continue
        handshakes["public" if "public" in path.parts else "lab"] += len(rows)
        for row in rows:
            library = {
                side: "Go" if answers.tls_column(f"{side}_stack")[row] == Stack.GO else "not shown to be Go"
                for side in ("client", "server")
            }
            for name, (_, side) in QUESTIONS.items():
                if truth.tls_grade(f"{name}_grade")[row] != Grade.OBSERVED:
                    continue
                # A refusal in clear needs no inference.
                grade = answers.tls_grade(f"{name}_grade")[row]
                want, got = (int(evidence.tls_column(name)[row]) for evidence in (truth, answers))
                if grade == Grade.OBSERVED:
                    continue
                if got and grade < Grade.INFERRED:
                    overgraded.append(f"{path.name} row {row}: {name}")
                cells[name, library[side], WORDS[want], WORDS[got]] += 1
            for name, (_, side) in VALUES.items():
                value = _values(name, truth, answers, row)
                if value is not None:
                    truly, said = value
                    answer = "open" if said is None else "right" if said == truly else "wrong"
                    cells[name, library[side], "known", answer] += 1
    return cells, handshakes, overgraded


def _values(name: str, truth: Evidence, answers: Evidence, row: int) -> tuple[object, object] | None:
    """(what it is, what is inferred: None = open); None where the truth is not known."""
    if name == "alpn":
        if truth.tls_grade("alpn_grade")[row] != Grade.OBSERVED:
            return None
        known = answers.tls_grade("alpn_grade")[row] != Grade.NONE
        return truth.tls_text("alpn")[row], answers.tls_text("alpn")[row] if known else None
    if name == "authorities":
        want, got = (int(evidence.tls_column("authorities", -1)[row]) for evidence in (truth, answers))
        return (want, got if got >= 0 else None) if want >= 0 else None
    if truth.tls_column(f"{name.split('_')[0]}_chain", -1)[row] < 0:
        return None
    return truth.tls_text(name)[row], answers.tls_text(name)[row] or None


def markdown(cells: Counter[Cell], handshakes: Counter[str]) -> str:
    """Both tables."""
    lines = [
        f"{handshakes.total()} handshakes of TLS 1.3 that could be decrypted: {handshakes['lab']} of the lab cluster, "
        f"{handshakes['public']} of public captures.",
        "",
        "| inferred | the end is | truth yes: said yes | no | open | truth no: said no | yes | open |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by_library = sorted({(name, library) for name, library, _, _ in cells}, key=lambda pair: (pair[1], pair[0]))
    for name, library in by_library:
        if name in QUESTIONS:
            yes = [cells[name, library, "yes", answer] for answer in ("yes", "no", "open")]
            no = [cells[name, library, "no", answer] for answer in ("no", "yes", "open")]
            lines.append(f"| {QUESTIONS[name][0]} | {library} | " + " | ".join(map(str, yes + no)) + " |")
    lines += ["", "| inferred | the end is | right | wrong | open |", "|---|---|---|---|---|"]
    for name, library in by_library:
        if name in VALUES:
            counts = [cells[name, library, "known", answer] for answer in ("right", "wrong", "open")]
            lines.append(f"| {VALUES[name][0]} | {library} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def wrong(cells: Counter[Cell]) -> Counter[Cell]:
    """Cells with a wrong answer."""
    return Counter(
        {
            cell: count
            for cell, count in cells.items()
            if cell[3] == "wrong" or (cell[2] in ("yes", "no") and cell[3] in ("yes", "no") and cell[2] != cell[3])
        }
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    options = parser.parse_args()
    cells, handshakes, overgraded = compare()
    tables = markdown(cells, handshakes)
    print(tables)
    if options.write:
        head, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        DOCUMENT.write_text(f"{head}{BEGIN}\n{tables}\n{END}{tail}", "utf-8")
    if overgraded or any(cell[1] == "Go" for cell in wrong(cells)):
        sys.exit(1)


if __name__ == "__main__":
    main()
