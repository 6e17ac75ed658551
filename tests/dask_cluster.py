"""A real Dask cluster of several worker processes on this machine, in a process of its own.

Run as a program it prints its scheduler's address, and its workers' process ids after each line it is sent; it ends
when nothing more is sent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

WORKERS = 3


class RunningCluster:
    """A cluster that a test started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.address = str(self._answer()["address"])

    def workers(self) -> list[int]:
        """Process ids of the workers that are there now."""
        self._in.write("\n")
        self._in.flush()
        pids: list[int] = self._answer()["pids"]
        return pids

    def _answer(self) -> dict[str, Any]:
        line = self._out.readline()
        assert line, "the cluster has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def running(environment: Mapping[str, str], workers: int = WORKERS) -> Iterator[RunningCluster]:
    """Start a cluster with this environment; it ends with the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dask_cluster", str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=dict(environment),
    )
    try:
        yield RunningCluster(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _main() -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        _say({"address": cluster.scheduler_address})
        for _ in sys.stdin:
            _say({"pids": [worker.pid for worker in cluster.workers.values() if worker.pid is not None]})


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
