"""Drives one run from the command line, until it ends or the user wants to leave."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import Fenced, RollforwardError, RunCancelled
from orchestrator.execution.handle import RunHandle
from orchestrator.state import State
from rollforward.assembly import Assembly
from rollforward.cli.progress import Watch, display
from rollforward.embedded.deployment import EmbeddedUnavailable
from rollforward.embedded.folder import DEFAULT_PATH
from rollforward.hosting import Host, no_worker, workers_are_ready

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

_LOOK_EVERY_SECONDS = 0.25
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DrivenElsewhere(RollforwardError):
    """Another orchestrator has taken the run over; this one has stopped and written nothing since."""

    category = Fenced.category

    def __init__(self, fenced: Fenced) -> None:
        self.run_id = fenced.run_id
        super().__init__(
            f"another orchestrator has taken run {fenced.run_id} over, and this one has stopped; "
            f"`rollforward status {fenced.run_id} --watch` follows it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """How driving a run came to its end here: with a state, an error, or a signal that asked to leave.

    `failed_count` is how many instances failed in a run that succeeded all the same, as far as was seen here; `losses`
    are what observers did not keep, a sentence each.
    """

    run_id: str
    invocation_id: str
    status: RunStatus
    state: State | None = None
    error: Exception | None = None
    left_by: signal.Signals | None = None
    failed_count: int = 0
    losses: tuple[str, ...] = ()


@dataclass(slots=True)
class Interruption:
    """The first signal that asks to leave; a second one ends the process at once."""

    by: signal.Signals | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @contextmanager
    def caught(cls) -> Iterator["Interruption"]:
        """Catch signals in the running loop."""
        interruption, loop = cls(), asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, interruption.take, number)
        try:
            yield interruption
        finally:
            interruption.release()

    def take(self, number: signal.Signals) -> None:
        self.by = number
        self.came.set()
        self.release()

    def release(self) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)


async def conclude(handle: RunHandle, host: Host, *, style: str) -> Conclusion:
    """Watch a run to its end, or leave it when a signal asks to or the embedded deployment has failed."""
    result = asyncio.create_task(handle.result())
    with Interruption.caught() as interruption:
        with display(style, handle.run_id) as shown:
            watch = Watch(shown, is_resumed=handle.invocation_id != handle.run_id)
            failure = await _watched(handle, result, interruption, host=host, watch=watch)
        if not result.done():
            await handle.detach()
    try:
        state = await result
    except asyncio.CancelledError:
        error = None if failure is None else EmbeddedUnavailable(f"the run cannot go on: {failure}")
        return _conclusion(handle, RunStatus.SUBMITTED, error=error, left_by=interruption.by)
    except RunCancelled as error:
        return _conclusion(handle, RunStatus.CANCELLED, error=error)
    except Fenced as error:
        return _conclusion(handle, RunStatus.RUNNING, error=DrivenElsewhere(error))
    except RollforwardError as error:
        return _conclusion(handle, RunStatus.FAILED, error=error)
    failed_count = sum(count.failed for count in handle.status().fan_outs)
    return _conclusion(handle, RunStatus.SUCCEEDED, state=state, failed_count=failed_count)


async def _watched(
    handle: RunHandle, result: "asyncio.Task[State]", interruption: Interruption, *, host: Host, watch: Watch
) -> str | None:
    """Show progress until there is a result, a signal, or a failure, which is the answer."""
    leaving = asyncio.create_task(interruption.came.wait())
    try:
        while not result.done() and not leaving.done():
            watch.update(handle.status())
            failure = host.failure()
            if failure is not None:
                return failure
            await asyncio.wait({leaving, result}, timeout=_LOOK_EVERY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        watch.update(handle.status())
        return None
    finally:
        leaving.cancel()


async def ready(assembly: Assembly, host: Host, graph: "Graph") -> None:
    """Wait for the workers that were started here; elsewhere say on stderr if none has the graph.

    Raises:
        LedgerUnavailable: Redis is away.
        EmbeddedUnavailable: the workers do not come up.
    """
    if not await workers_are_ready(assembly, host, graph):
        click.echo(no_worker(graph.name, graph.fingerprint), err=True)


def announce(host: Host) -> None:
    """Say on stderr where the run goes, where nothing was configured."""
    if host.deployment is not None and host.is_embedded:
        click.echo(f"embedded run in {DEFAULT_PATH}/ (set ROLLFORWARD_REDIS_URL to use a deployment)", err=True)


def _conclusion(handle: RunHandle, status: RunStatus, **facts: Any) -> Conclusion:
    return Conclusion(run_id=handle.run_id, invocation_id=handle.invocation_id, status=status, **facts)
