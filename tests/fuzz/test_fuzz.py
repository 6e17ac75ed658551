"""A short, seeded run of the fuzzer; its own working; and every input that once failed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LAB
from tests.fuzz import seeds
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import Target, run_batch, shrink, take_files, take_frames, take_streams, targets

CASES = Path(__file__).parent / "cases"


@pytest.fixture(scope="module")
def ways() -> list[Target]:
    rng = random.Random(1)
    paths = sorted(p for p in LAB.iterdir() if p.suffix in {".pcap", ".pcapng"})
    return targets(seeds.frames(paths, rng), seeds.files(paths, rng), seeds.streams(paths[:8]))


@pytest.mark.parametrize("which", [0, 1, 2], ids=["frames", "connections", "captures"])
def test_mutated_inputs_are_read(ways: list[Target], which: int) -> None:
    rng = random.Random(20 + which)
    for _ in range(3):
        run_batch(ways[which], ways[which].make(rng))
    assert ways[which].inputs == 3 * ways[which].batch


def test_mutations_differ_and_follow_from_the_seed() -> None:
    def some(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        return [mutate(bytes(range(64)), [b"other" * 9], rng) for _ in range(500)]

    assert some(1) == some(1)
    assert some(1) != some(2)
    changed = [octets for octets in some(1) if octets != bytes(range(64))]
    assert len(set(changed)) > 400
    assert {len(octets) < 64 for octets in changed} == {True, False}


def test_a_failure_is_shrunk_to_the_input_that_fails() -> None:
    def take(batch: list[bytes]) -> int:
        assert b"\xde\xad" not in batch
        return len(batch)

    batch: list[Any] = [bytes([n, n]) for n in range(100)]
    batch[63] = b"\xde\xad"

    assert shrink(Target("any", lambda rng: [], take, 1), batch) == [b"\xde\xad"]


@pytest.mark.parametrize("case", sorted(CASES.glob("*.txt")), ids=lambda path: path.stem)
def test_what_once_failed(case: Path) -> None:
    """One case a file; its first line names the target, each further one an input in hexadecimal, parts by spaces."""
    target, *lines = case.read_text().split("\n")
    inputs = [line.split() for line in lines if line and not line.startswith("#")]
    if target == "frames":
        take_frames([(int(link), bytes.fromhex(octets)) for link, octets in inputs])
    elif target == "captures":
        take_files([bytes.fromhex(octets) for (octets,) in inputs])
    else:
        take_streams(
            [(bytes.fromhex(client.strip(".")), bytes.fromhex(server.strip("."))) for client, server in inputs]
        )
