"""Where the time goes: CPU time of each stage of one audit, per packet and per connection, as Markdown.

    python benchmarks/stages.py FILE [--runs 3]

Stages are timed from outside, by wrapping the functions that the pipeline calls; a stage's time is its own, without
that of the stages it calls. Of several runs each stage's least time counts.
"""

from __future__ import annotations

import argparse
import compileall
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]

# stage: (module, owner in it or "", function)
STAGES: Final[dict[str, list[tuple[str, str, str]]]] = {
    "reading from the file": [("analyzer.capture.stream", "FileSource", "readinto")],
    "finding the records": [("analyzer.capture.pcap", "PcapParser", "parse")],
    "decoding": [("analyzer.decode.packets", "Decoder", "decode")],
    "flows: totals and signatures": [("analyzer.flows", "FlowBuilder", "add")],
    "flows: traffic over time": [
        ("analyzer.traffic", "TrafficCounter", "add"),
        ("analyzer.traffic", "TrafficCounter", "settle"),
    ],
    "stream heads: collecting": [("analyzer.heads", "HeadCollector", "add")],
    "stream heads: assembling": [
        ("analyzer.heads", "HeadCollector", "assemble"),
        ("analyzer.heads", "HeadCollector", "release"),
    ],
    "HTTP/1 behind the heads": [
        ("analyzer.late", "LateCollector", "add"),
        ("analyzer.pipeline", "", "read_late"),
    ],
    "recognising protocols": [("analyzer.pipeline", "", "identify")],
    "reading TLS": [("analyzer.pipeline", "", "read_tls")],
    "reading HTTP and SSH": [("analyzer.pipeline", "", name) for name in ("read_http1", "read_http2", "read_ssh")],
    "settling, the rest": [
        ("analyzer.pipeline", "Pipeline", "add"),
        ("analyzer.pipeline", "Pipeline", "assembled"),
        ("analyzer.pipeline", "", "finish"),
        ("analyzer.analysis", "", "finish"),
    ],
    "HTTP/2 behind the heads": [
        ("analyzer.protocols.http2_late", "Http2Collector", name) for name in ("add", "take", "close")
    ],
    "roles, verdicts, rules": [("analyzer.analysis", "", "conclude")],
    "document": [("analyzer.report.document", "", "build_document")],
    "JSON": [("analyzer.report.tables", "", "write_json")],
}


def compile_modules() -> None:
    """Have compiled what an installed package has: whatever the environment says, nothing is compiled in each run."""
    compileall.compile_dir(ROOT / "analyzer", quiet=1)


class Clock:
    """CPU time by stage, each without that of the stages called inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    def wrap(self, owner: Any, name: str, stage: str) -> None:  # noqa: ANN401 - a module or a class
        """Time the function `name` of `owner` as part of `stage`."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever it wraps
            begin = time.thread_time()
            self._inside.append(0.0)
            try:
                return function(*arguments, **named)
            finally:
                spent = time.thread_time() - begin
                self.seconds[stage] += spent - self._inside.pop()
                if self._inside:
                    self._inside[-1] += spent

        setattr(owner, name, timed)


def once(path: str) -> dict[str, Any]:
    """One audit in this process: seconds by stage, and how many packets and connections."""
    gc.disable()
    begin = time.process_time()
    import analyzer.cli  # noqa: F401 - its start-up is part of every run
    from analyzer import analysis
    from analyzer.capture.discovery import Source, open_captures
    from analyzer.report import document, tables

    clock = Clock()
    clock.seconds["starting up"] = time.process_time()
    for stage, functions in STAGES.items():
        for module, owner, name in functions:
            holder: Any = sys.modules[module]
            clock.wrap(getattr(holder, owner) if owner else holder, name, stage)
    with tempfile.TemporaryDirectory() as folder, open_captures([Source(path)]) as reader:
        result = analysis.run(reader)
        made = document.build_document(result)
        tables.write_json(made, Path(folder) / "result.json")
    clock.seconds["everything else"] = time.process_time() - begin - sum(clock.seconds.values())
    return {
        "seconds": dict(clock.seconds),
        "packets": made["ledger"]["frames"],
        "connections": len(made["connections"]["data"]["client_ip"]),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.capture)))
        return
    compile_modules()
    runs = []
    for _ in range(options.runs):
        command = [sys.executable, __file__, options.capture, "--once"]
        # As the command line has it: see `analyzer.cli.main`.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)
        runs.append(json.loads(done.stdout))
    packets, connections = runs[0]["packets"], runs[0]["connections"]
    print(f"{packets:,} packets, {connections:,} connections; least of {options.runs} runs\n")
    print("| stage | CPU s | ns a packet | ns a connection |\n|---|---|---|---|")
    total = 0.0
    for stage in runs[0]["seconds"]:
        seconds = min(run["seconds"][stage] for run in runs)
        total += seconds
        print(f"| {stage} | {seconds:.3f} | {seconds / packets * 1e9:.0f} | {seconds / connections * 1e9:,.0f} |")
    print(f"| **all** | {total:.3f} | {total / packets * 1e9:.0f} | {total / connections * 1e9:,.0f} |")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
