"""Plays the verbs of a simulation again on the ledger in Redis, and compares the answers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from backends.ledgers.redis import RedisLedger, RedisWorkerLedger
from orchestrator.errors import RollforwardError
from orchestrator.ledger.view import Sweep
from tests.chaos.sim.script import Act

WORKERS_VERBS = frozenset({"claim", "briefing", "beat", "progress", "report", "release", "decline"})

Dump = list[tuple[bytes, Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """An act that Redis has answered otherwise than the ledger in memory."""

    act: Act
    answer: Any

    def __str__(self) -> str:
        act = self.act
        told = f"{act.at:.3f} {act.actor} {act.verb} {act.args} {act.named}"
        return f"{told}\n  in memory: {act.answer}\n  in Redis:  {self.answer}"


class Replay:
    """One Redis, whose clock is that of the acts. Each actor has connections of its own, as its process would."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seconds = 0.0
        self._client = redis.Redis.from_url(url)
        self._ledger = RedisLedger(url, now=lambda: self._seconds)
        self._workers: dict[str, RedisWorkerLedger] = defaultdict(self._new_worker)
        self._snapshots: dict[str, Dump] = {}

    async def play(self, acts: Sequence[Act]) -> list[Difference]:
        """Play from the beginning; the acts that were answered otherwise."""
        return [
            Difference(act, answer) for act in acts if in_order(answer := await self._play(act)) != in_order(act.answer)
        ]

    async def close(self) -> None:
        await self._ledger.close_connections()
        self._client.close()
        self._send_workers_away()

    async def _play(self, act: Act) -> Any:
        self._seconds = act.at
        what, _, name = act.verb.partition(" ")
        match what:
            case "wipe":
                self._client.flushdb()
            case "snapshot":
                self._snapshots[name] = self._dump()
            case "rollback":
                self._restore(self._snapshots.pop(name))
            case _:
                return await self._answer(act)
        return None

    async def _answer(self, act: Act) -> Any:
        try:
            if act.verb in WORKERS_VERBS:
                return getattr(self._workers[act.actor], act.verb)(*act.args, **act.named)
            return await getattr(self._ledger, act.verb)(*act.args, **act.named)
        except RollforwardError as error:
            return type(error)

    def begin(self) -> None:
        """Let another simulation be played: its processes are new."""
        self._send_workers_away()
        self._snapshots.clear()

    def _send_workers_away(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _new_worker(self) -> RedisWorkerLedger:
        return RedisWorkerLedger(self._url, now=lambda: self._seconds)

    def _dump(self) -> Dump:
        keys: Any = self._client.scan_iter()
        return [(key, self._client.dump(key)) for key in keys]

    def _restore(self, dump: Dump) -> None:
        self._client.flushdb()
        for key, value in dump:
            self._client.restore(key, 0, value)


def in_order(answer: Any) -> Any:
    """An answer whose order does not matter, in one that can be compared."""
    if isinstance(answer, Sweep):
        kinds = (answer.lapsed, answer.overdue, answer.declined, answer.unknown)
        return [sorted(kind, key=str) for kind in kinds]
    if isinstance(answer, list) and answer and hasattr(answer[0], "outcome"):
        return sorted(answer, key=lambda report: (report.slot.fan_out, report.slot.index))
    return answer
