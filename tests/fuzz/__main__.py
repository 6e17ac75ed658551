"""``python -m tests.fuzz [--inputs N] [--seed N]``: mutate until N inputs have been taken, and say what was found.

A frame, a connection and a capture each count as one input; the line at the end says how many of each there were.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import traceback
from typing import Any

from tests.conftest import ROOT
from tests.fuzz import seeds
from tests.fuzz.targets import LEAST, Target, run_batch, shrink, targets

FAILURES = ROOT / "build" / "fuzz"
SHARES = {"frames": 0.9, "connections": 0.08, "captures": 0.02}
SLOW = 100.0
"""Times the median time an octet that no batch may exceed."""


def report(target: Target) -> bool:
    """One line; whether the slowest batch stays within the bound."""
    median = statistics.median(target.rates)
    worst = target.slowest[0] / median if median else 0.0
    print(
        f"{target.name:12} {target.inputs:9,} inputs in {len(target.rates):,} batches, {target.seconds:7.1f} s of CPU; "
        f"{median * 1e9:7.1f} ns an octet (median), slowest batch {worst:.1f} times that"
    )
    return worst <= SLOW


def as_case(target: Target, inputs: list[Any]) -> str:
    """Inputs as `test_fuzz.test_what_once_failed` reads them."""

    def part(value: int | bytes) -> str:
        return str(value) if isinstance(value, int) else value.hex() or "."

    lines = [" ".join(part(value) for value in (one if isinstance(one, tuple) else (one,))) for one in inputs]
    return "\n".join([target.name, *lines, ""])


def alone(target: Target, rng: random.Random, wanted: int) -> float:
    """How many times the median the slowest of `wanted` inputs takes, each by itself, in time an octet.

    A batch would hide one slow input among many. Inputs below `LEAST` octets count for that many: taking any costs as
    much.
    """
    inputs = list(target.slowest[1])
    while len(inputs) < wanted:
        inputs += target.make(rng)
    rates = []
    for one in inputs[:wanted]:
        begin = time.process_time()
        try:
            octets = target.take([one])
        except Exception:
            continue  # its batch has failed, or will in another run: time is all that is asked here
        rates.append((time.process_time() - begin) / max(octets, LEAST))
    return max(rates) / statistics.median(rates)


def main() -> int:
    """Fuzz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--captures", type=int, default=400, help="public captures to take seeds from")
    parser.add_argument("--alone", type=int, default=2000, help="inputs of each kind that are timed one by one")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    paths = seeds.captures(rng, options.captures)
    small = [path for path in paths if path.stat().st_size < 4 << 20]
    ways = targets(seeds.frames(paths, rng), seeds.files(paths, rng), seeds.streams(small))
    failed = 0
    for target in ways:
        wanted = int(options.inputs * SHARES[target.name])
        while target.inputs < wanted:
            batch = target.make(rng)
            try:
                run_batch(target, batch)
            except Exception:
                failed += 1
                traceback.print_exc()
                FAILURES.mkdir(parents=True, exist_ok=True)
                kept = FAILURES / f"{target.name}-{options.seed}-{failed}.txt"
                kept.write_text(as_case(target, shrink(target, batch)))
                print(f"kept as {kept}", file=sys.stderr)
                target.inputs += len(batch)
                if failed >= 10:
                    break
    within = [report(target) for target in ways if target.rates]
    for target in ways:
        if target.rates:
            worst = alone(target, rng, options.alone)
            print(
                f"{target.name:12} {options.alone:,} inputs one by one: the slowest takes {worst:.1f} times the median"
            )
            within.append(worst <= SLOW)
    print(f"{sum(t.inputs for t in ways):,} inputs, {failed} failures, seed {options.seed}")
    return int(failed > 0 or not all(within))


if __name__ == "__main__":
    sys.exit(main())
