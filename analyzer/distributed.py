"""Recordings read by the workers of a Dask cluster, each where its captures are; only what they gave comes back.

The scheduler sees to it that a worker that dies costs time only: what it had in hand is given to another. A recording
that cannot be read wherever it is tried is named and skipped, and costs nothing of the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final
from uuid import uuid4

from analyzer.analysis import Progress, Work, movable_of
from analyzer.capture.candidates import Candidate, Examined
from analyzer.capture.remote import RemoteFile, reason_of
from analyzer.capture.several import Portion
from analyzer.errors import MissingProgramError, SchedulerError
from analyzer.partial import Partial
from analyzer.workers import Tally

CONNECT_S: Final = 15
"""Seconds to wait in all, until the scheduler and its workers have answered."""
_CLOSE_S: Final = 5
"""Seconds that the connection has to end in."""
RETRIES: Final = 2
"""Times that work which failed is tried again. Work whose worker died is given to another by the scheduler itself, as
often as its ``distributed.scheduler.allowed-failures`` says (3)."""
_LOOKS: Final = 16
"""Files that a worker looks at in one piece of work: each costs a storage's answers and little else."""


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Connect to the scheduler of a cluster and see that its workers can do the work.

    Raises
    ------
    MissingProgramError
        Dask is not installed here.
    SchedulerError
        The scheduler is not reached, has no workers, or these have not the version that runs here.
    """
    try:
        from distributed import Client
        from distributed.comm.core import CommClosedError
    except ImportError:
        raise MissingProgramError("--scheduler needs Dask: pip install 'planewire[distributed]'") from None
    patience = _Patience(address)
    with _quiet():
        _reach(address, patience)
        try:
            client = Client(address, timeout=patience.left(), set_as_default=False, name="planewire")
        except OSError as error:
            raise SchedulerError(address, f"the scheduler takes no connection: {reason_of(error)}") from None
        try:
            cluster = Cluster(client, address)
            cluster.check(patience)
            yield cluster
        except CommClosedError:
            raise SchedulerError(address, "the connection to the scheduler was lost") from None
        finally:
            client.close(timeout=_CLOSE_S)


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask's log is for who runs the cluster; what concerns the user is said once, by an error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        logging.disable(before)


class _Patience:
    """What is left of `CONNECT_S` from now on."""

    def __init__(self, address: str) -> None:
        self._address: Final = address
        self._end: Final = time.monotonic() + CONNECT_S

    def left(self) -> float:
        """Seconds; raises a `SchedulerError` where there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise SchedulerError(self._address, f"the cluster is not ready within {CONNECT_S} seconds")
        return left


def _reach(address: str, patience: _Patience) -> None:
    """See that a scheduler answers: a client that does not come to be takes long to end."""
    from distributed.core import rpc
    from distributed.security import Security

    async def ask() -> str:
        async with rpc(address, timeout=_dial_s(), connection_args=Security().get_connection_args("client")) as peer:
            identity: dict[str, str] = await peer.identity()
            return identity.get("type", "")

    try:
        kind = asyncio.run(asyncio.wait_for(ask(), patience.left()))
    except TimeoutError:
        raise SchedulerError(address, f"no Dask scheduler answers within {CONNECT_S} seconds") from None
    except Exception as error:
        raise SchedulerError(address, f"no Dask scheduler can be reached there: {reason_of(error)}") from None
    if not kind.endswith("Scheduler"):
        raise SchedulerError(address, f"a Dask {kind.lower() or 'process'} answers there, not a scheduler")


def _dial_s() -> float:
    """Seconds to wait for a connection to the scheduler: ours, or fewer where Dask is so configured."""
    import dask
    from dask.utils import parse_timedelta

    configured = parse_timedelta(dask.config.get("distributed.comm.timeouts.connect"))
    return min(float(configured), CONNECT_S)


class Cluster:
    """A cluster that shares the work; see `connect`.

    Parameters
    ----------
    client : distributed.Client
    address : str
        Of its scheduler.
    """

    def __init__(self, client: Any, address: str) -> None:  # noqa: ANN401 - distributed has no types
        self._client: Final = client
        self._address: Final = address
        self._run: Final = uuid4().hex

    def check(self, patience: _Patience) -> None:
        """Raise a `SchedulerError` unless there are workers, all with the version that runs here."""
        try:
            self._client.wait_for_workers(1, timeout=patience.left())
        except TimeoutError:
            raise SchedulerError(self._address, f"the scheduler has no worker after {CONNECT_S} seconds") from None
        here = version("planewire")
        run = self._client._run  # what `run` calls, which waits for ever for a worker that is stopped
        try:
            there = self._client.sync(run, version, "planewire", on_error="return", callback_timeout=patience.left())
        except TimeoutError:
            raise SchedulerError(self._address, f"a worker does not answer within {CONNECT_S} seconds") from None
        for worker, found in sorted(there.items()):
            if isinstance(found, PackageNotFoundError):
                raise SchedulerError(
                    self._address, f"planewire is not installed on worker {worker}: install version {here} there"
                )
            if found != here:
                raise SchedulerError(self._address, f"worker {worker} has planewire {found}, and this is {here}")

    def look(self, examine: Callable[[Candidate], Examined], candidates: Sequence[Candidate]) -> Iterable[Examined]:
        """Look at files from the workers; a `capture.discovery.Mapper`."""
        parts = [candidates[i : i + _LOOKS] for i in range(0, len(candidates), _LOOKS)]
        futures = [
            self._client.submit(_look, examine, part, key=f"planewire-look-{self._run}-{number}", retries=RETRIES)
            for number, part in enumerate(parts)
        ]
        try:
            answers = self._client.gather(futures)
        except Exception as error:
            raise SchedulerError(self._address, f"the workers cannot look at the captures: {_why(error)}") from None
        found = [one for answer in answers for one in answer]
        return [_told_where(*pair) for pair in zip(candidates, found, strict=True)]

    def read(self, portions: Sequence[Portion], work: Work, workers: int, progress: Progress | None) -> list[Partial]:
        """Have the portions read; an `analysis.Spread`. Pipes, which no worker could read, are read here."""
        from distributed import as_completed

        tally = Tally(progress)
        given = self._hand_over(work)
        portion_of = {
            self._client.submit(
                _read, given, portion, version("planewire"), key=f"planewire-read-{self._run}-{number}", retries=RETRIES
            ): portion
            for number, portion in enumerate(movable_of(portions))
        }
        partials: list[Partial] = []
        try:
            for future in as_completed(list(portion_of), loop=self._client.loop):
                portion = portion_of.pop(future)
                found = self._result(future, portion, work)
                # The worker need not keep it any longer.
                future.release()
                partials += found
                tally.here()(portion.size, sum(partial.inventory.frames for partial in found))
        finally:
            if portion_of:
                self._client.cancel(list(portion_of))
            given.release()
        for portion in portions:
            if not portion.portable:
                partials += work.read_portion(portion, workers, tally.here())
        return partials

    def _hand_over(self, work: Work) -> Any:  # noqa: ANN401
        """Give the workers what is to be done, secrets and all, once and not with each portion.

        It is a task, not scattered data: where the workers that hold it die, it is made again.
        """
        given = self._client.submit(_itself, work, key=f"planewire-work-{self._run}", retries=RETRIES)
        with suppress(Exception):
            # A portion is given to workers that hold it: to all of them.
            self._client.replicate([given])
        return given

    def _result(self, future: Any, portion: Portion, work: Work) -> list[Partial]:  # noqa: ANN401
        try:
            found: list[Partial] = future.result()
        except Exception as error:
            if self._client.status != "running":
                raise SchedulerError(self._address, "the connection to the scheduler was lost") from None
            reason = f"no worker could read it: {_why(error)}"
            return [work.nothing(number, recording, reason) for number, recording in portion.recordings]
        return found


def _itself(work: Work) -> Work:
    """On a worker: keep it for the portions."""
    return work


def _look(examine: Callable[[Candidate], Examined], candidates: Sequence[Candidate]) -> list[Examined]:
    """On a worker: look at files."""
    return [examine(candidate) for candidate in candidates]


def _read(work: Work, portion: Portion, caller: str) -> list[Partial]:
    """On a worker: read a portion. One that joined the cluster later may have another version."""
    if version("planewire") != caller:
        raise RuntimeError(f"the worker has planewire {version('planewire')}, and this is {caller}")
    return work.read_portion(portion)


def _told_where(candidate: Candidate, found: Examined) -> Examined:
    """Say that it was a worker that found no file: the user may see it here."""
    if isinstance(candidate.place, RemoteFile) or not any(one.reason == "no such file" for one in found.skipped):
        return found
    reason = "no such file on the worker: workers read captures themselves, at the same path or from a storage"
    return replace(found, skipped=tuple(replace(one, reason=reason) for one in found.skipped))


def _why(error: BaseException) -> str:
    """What went wrong on the workers, in one line."""
    if type(error).__name__ == "KilledWorker":
        return "each worker that tried it died (more memory for a worker may help)"
    if type(error).__name__ in ("CancelledError", "FutureCancelledError"):
        return "the scheduler gave it up"
    return f"{type(error).__name__}: {reason_of(error)}"
