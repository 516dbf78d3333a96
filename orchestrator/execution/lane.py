"""Where instances go: a ledger and the executor that works from it."""

import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from orchestrator.capture.capture import CaptureOptions
from orchestrator.errors import Fenced, LedgerLost, OperatorError
from orchestrator.execution.executor import Executor
from orchestrator.ledger.protocol import LedgerReader, OrchestratorLedger
from orchestrator.metrics.meter import UNMETERED, Meter
from orchestrator.report import DEFAULT_PAYLOAD_BYTES


class Ledger(OrchestratorLedger, LedgerReader, Protocol):
    """The orchestrator's end of a ledger, and what people look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A ledger and the executor whose instances claim from it."""

    ledger: Ledger
    executor: Executor


async def forget(lane: Lane, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
    """Let go of the keys of a fan-out, or of a run that is over, where the ledger can be reached.

    What stays behind costs memory only; it must not fail a run that is recorded.
    """
    with contextlib.suppress(OperatorError, LedgerLost, Fenced):
        await lane.ledger.forget(run_id, epoch, fan_out=fan_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an orchestrator owns runs and looks after instances.

    `owner` is the text of an `Owner`. `lease` is the orchestrator's own on a run; `instance_lease` is a worker's on an
    instance, `heartbeat` how often a worker extends it. After `claim_deadline` the message of a queued instance may be
    lost: where there is evidence, it is sent again, which costs one refused claim where it was not. `capture` says how
    much is taken of the output of instances that run here.
    """

    owner: str
    lease: timedelta = timedelta(seconds=10)
    renew_every: timedelta = timedelta(seconds=3)
    instance_lease: timedelta = timedelta(seconds=15)
    heartbeat: timedelta = timedelta(seconds=5)
    claim_deadline: timedelta = timedelta(seconds=5)
    max_deliveries: int = 3
    max_item_bytes: int = DEFAULT_PAYLOAD_BYTES
    code_version: str | None = None
    capture: CaptureOptions = field(default_factory=CaptureOptions)
    meter: Meter = UNMETERED
