"""Instances of nothing, which workers claim to show that they consume.

One goes the way of any instance: it is queued in the ledger, its message goes through the broker, and the worker that
gets it claims it, and leaves it alone after that. What it would run is of a graph that nobody has.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from backends.health.redis import expire_keys
from backends.ledgers.redis.keys import Keys
from backends.ledgers.redis.orchestrator import RedisLedger
from orchestrator.bitmap import Bitmap
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.executor import Hint
from orchestrator.identity import FanOutKey, Slot
from orchestrator.ledger.view import Opening, QueuedItem
from orchestrator.seal import Seal
from rollforward.assembly import open_orchestrator_ledger
from workers.application import build_app
from workers.message import CANARY_RUN_ID
from workers.publisher import Publisher
from workers.settings import Settings

GRAPH = "the canary of `rollforward doctor`, which is never run"
SHORTEST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 10.0

_EPOCH = 1
_LOOK_EVERY_SECONDS = 0.05
_KEPT_SECONDS = 120
_OF_RUN = ("meta", "fan_outs")
_OF_FAN_OUT = ("head", "closed", "slots", "items")

Version = tuple[str, str]
"""A graph's name and fingerprint, as the queue of its workers is named."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Which worker claimed a canary, and after how long."""

    worker: str
    seconds: float


def patience(settings: Settings) -> float:
    """For how many seconds a canary is waited for: as long as a lease, within reason."""
    return min(max(settings.lease_seconds, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)


def send_canaries(
    settings: Settings, versions: Sequence[Version], *, are_refused: Callable[[], int]
) -> Mapping[Version, Answer]:
    """Send one to the workers of each graph version, and give the answers that came within `patience` seconds.

    `are_refused` says how many messages were refused since; nothing more is waited for where all others were.

    Raises:
        LedgerUnavailable: Redis is away, or refuses writes.
        BrokerUnavailable: the message cannot be published.
    """
    return asyncio.run(_sent(settings, versions, are_refused)) if versions else {}


async def _sent(
    settings: Settings, versions: Sequence[Version], are_refused: Callable[[], int]
) -> Mapping[Version, Answer]:
    fan_out = f"canary-{secrets.token_hex(8)}"
    ledger = open_orchestrator_ledger(settings)
    try:
        try:
            await _queue(ledger, fan_out, len(versions))
        finally:
            # What ends in the middle, or may do half of it, leaves nothing behind for long.
            keys = (*_OF_RUN, *(f"{fan_out}:{key}" for key in _OF_FAN_OUT))
            prefix = Keys(settings.namespace).run(CANARY_RUN_ID)
            expire_keys(str(settings.redis_url), [prefix + key for key in keys], seconds=_KEPT_SECONDS)
        began = time.monotonic()
        _publish(settings, fan_out, versions)
        answers: dict[int, Answer] = {}
        while len(answers) < len(versions) - are_refused() and time.monotonic() < began + patience(settings):
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            for instance in await ledger.live(CANARY_RUN_ID, fan_out):
                if instance.worker is not None:
                    answers.setdefault(instance.slot.index, Answer(instance.worker, time.monotonic() - began))
        await ledger.forget(CANARY_RUN_ID, _EPOCH, fan_out=fan_out)
    finally:
        await ledger.close_connections()
    return {versions[index]: answer for index, answer in answers.items()}


async def _queue(ledger: RedisLedger, fan_out: str, count: int) -> None:
    briefing = Briefing(
        run_id=CANARY_RUN_ID,
        invocation_id=CANARY_RUN_ID,
        correlation_id=CANARY_RUN_ID,
        graph=GRAPH,
        fingerprint="none",
        fan_out=FanOutKey((), "canary"),
        inputs="{}",
        instance_count=count,
        max_result_bytes=1,
    ).to_json()
    await ledger.open(CANARY_RUN_ID, _EPOCH, Opening(fan_out, Bitmap(count), briefing, Briefing.hash_of(briefing)))
    items = [QueuedItem(Slot(fan_out, index, 0), b"{}") for index in range(count)]
    await ledger.queue(CANARY_RUN_ID, _EPOCH, items, claim_deadline_seconds=LONGEST_WAIT_SECONDS)


def _publish(settings: Settings, fan_out: str, versions: Sequence[Version]) -> None:
    with closing(build_app(settings)) as app:
        publisher = Publisher(app, Seal(settings.seal_keys), namespace=settings.namespace)
        with closing(publisher):
            publisher.publish(list(_hints(fan_out, versions)))


def _hints(fan_out: str, versions: Sequence[Version]) -> Iterator[Hint]:
    for index, (graph, fingerprint) in enumerate(versions):
        yield Hint(
            run_id=CANARY_RUN_ID,
            fan_out=fan_out,
            index=index,
            generation=0,
            graph=graph,
            fingerprint=fingerprint,
            label="doctor/canary",
        )
