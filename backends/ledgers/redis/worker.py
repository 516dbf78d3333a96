"""A worker's end of the ledger in Redis, and the registry of workers."""

import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from backends.ledgers.redis.client import failure, sync_client
from backends.ledgers.redis.keys import Keys
from backends.ledgers.redis.whereabouts import Whereabouts
from backends.ledgers.redis.wire import flat_slots, read_entries, read_item, write_entry, write_report
from backends.lua_script import run, script
from backends.untraced import untraced
from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, ClaimAnswer, Claimed, Held, Reported, Verdict
from orchestrator.ledger.owner import place_of
from orchestrator.reading import read_json
from orchestrator.report import DEFAULT_PAYLOAD_BYTES, Report
from orchestrator.seal import Seal

logger = logging.getLogger(__name__)

LONGEST_SECONDS = 10 * 365 * 86_400.0


class RedisWorkerLedger:
    """The verbs of a worker, from any thread and after any fork.

    `max_bytes` limits a report's partial. `now` is the seam for simulation: without it the server's clock counts.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "rollforward",
        seal: Seal | None = None,
        max_bytes: int = DEFAULT_PAYLOAD_BYTES,
        client_name: str = "rollforward-worker",
        now: Callable[[], float] | None = None,
    ) -> None:
        self._url = url
        self._keys = Keys(namespace)
        self._seal = seal or Seal()
        self._max_bytes = max_bytes
        self._client_name = client_name
        self._now = now
        self._clients: dict[int, redis.Redis] = {}
        self._whereabouts = Whereabouts(self._keys)

    def claim(
        self,
        run_id: str,
        slots: Sequence[Slot],
        *,
        owner: str,
        token: str,
        ttl_seconds: float,
        in_company: bool = False,
    ) -> list[ClaimAnswer]:
        is_known = self._whereabouts.has(run_id, owner)
        if not is_known:
            self._note(run_id, owner)
        told = (_seconds(ttl_seconds), token, owner, int(in_company))
        *rows, is_new = self._verb("claim", run_id, *told, *flat_slots(slots))
        if is_known and is_new:
            # The run or the whole of Redis was lost in between, and what was noted of this owner with it.
            self._note(run_id, owner)
        return [self._answer(run_id, Held(slot, token), row) for slot, row in zip(slots, rows, strict=True)]

    def briefing(self, run_id: str, fan_out: str) -> bytes | None:
        text: bytes | None = self._verb("briefing", run_id, fan_out)
        return text

    def beat(self, run_id: str, held: Sequence[Held], *, ttl_seconds: float, in_company: bool = False) -> list[Beat]:
        flat = [part for one in held for part in (*flat_slots([one.slot]), one.token)]
        answers = self._verb("beat", run_id, _seconds(ttl_seconds), int(in_company), *flat)
        return [Beat(answer.decode()) for answer in answers]

    def progress(self, run_id: str, held: Held, entries: Sequence[bytes]) -> bool:
        call = secrets.token_hex(8)
        sealed = [write_entry(run_id, held.slot, entry, self._seal) for entry in entries]
        return bool(self._verb("progress", run_id, *flat_slots([held.slot]), held.token, call, *sealed))

    def report(self, run_id: str, reports: Sequence[Report]) -> list[Reported]:
        fitting = [report for report in reports if not report.is_larger_than(self._max_bytes)]
        flat = [part for report in fitting for part in self._report_parts(run_id, report)]
        answers = iter(self._verb("report", run_id, *flat) if fitting else ())
        sent = {id(report): Reported(next(answers).decode()) for report in fitting}
        return [sent.get(id(report), Reported.TOO_LARGE) for report in reports]

    def release(self, owner: str, *, has_died: bool) -> int:
        self._whereabouts.forget(owner)
        told = self._safely(lambda client: client.smembers(self._keys.runs_of(owner)))
        # No run of ours has a name that is no text.
        runs = (run_id.decode("utf-8", "replace") for run_id in told)
        count: int = sum(self._verb("release", run_id, owner, int(has_died)) for run_id in runs)
        self._safely(lambda client: self._strike(client, owner))
        return count

    def decline(self, run_id: str, slots: Sequence[Slot], *, worker: str, reason: str) -> None:
        self._verb("decline", run_id, worker, reason, *flat_slots(slots))

    def announce(self, worker: str, facts: Mapping[str, object], *, ttl_seconds: float) -> None:
        told = json.dumps({**facts, "worker": worker})
        self._call("announce", self._keys.workers, worker, _seconds(ttl_seconds), told)

    def withdraw(self, worker: str) -> None:
        self._safely(lambda client: client.hdel(self._keys.workers, worker))

    def workers(self) -> list[Mapping[str, object]]:
        told = (_facts(text) for text in self._call("workers", self._keys.workers))
        return sorted((facts for facts in told if facts), key=lambda facts: str(facts["worker"]))

    def owners(self, place: str) -> list[str]:
        found = self._safely(lambda client: client.smembers(self._keys.owners_at(place)))
        return sorted(owner.decode("utf-8", "replace") for owner in found)

    def close(self) -> None:
        """Let connections go; the next call makes new ones."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    def _note(self, run_id: str, owner: str) -> None:
        self._safely(lambda client: self._whereabouts.note(client, run_id, owner))

    def _strike(self, client: redis.Redis, owner: str) -> None:
        with client.pipeline(transaction=False) as pipe:
            pipe.delete(self._keys.runs_of(owner))
            pipe.srem(self._keys.owners_at(place_of(owner)), owner)
            pipe.execute()

    def _answer(self, run_id: str, held: Held, row: list[Any]) -> ClaimAnswer:
        verdict = Verdict(row[0].decode())
        if verdict is not Verdict.OK:
            return ClaimAnswer(verdict)
        try:
            item, briefing_hash = read_item(row[3] or b""), row[2].decode()
        except (ValueError, IndexError) as error:
            # Neither this delivery nor its message can come to anything: the next one is given the item anew.
            logger.error("item refused", extra={"run_id": run_id, "index": held.slot.index, "reason": str(error)})
            self.beat(run_id, [held], ttl_seconds=0)
            return ClaimAnswer(Verdict.UNKNOWN)
        told = read_entries(run_id, held.slot, row[4], self._seal) if len(row) > 4 else ()
        claimed = Claimed(
            run_id=run_id,
            slot=held.slot,
            token=held.token,
            delivery=row[1],
            item=item.item,
            briefing_hash=briefing_hash,
            key=item.key,
            progress=(*item.progress, *told),
        )
        return ClaimAnswer(verdict, claimed)

    def _report_parts(self, run_id: str, report: Report) -> tuple[Any, ...]:
        return (*flat_slots([report.slot]), report.token, write_report(run_id, report, self._seal))

    def _verb(self, verb: str, run_id: str, *arguments: Any) -> Any:
        return self._call(verb, self._keys.run(run_id), *arguments)

    def _call(self, verb: str, key: str, *arguments: Any) -> Any:
        lua = script(__package__, verb)
        now = "" if self._now is None else repr(self._now())
        return self._safely(lambda client: run(client, lua, 1, key, now, *arguments))

    def _safely(self, use: Callable[[redis.Redis], Any]) -> Any:
        try:
            with untraced():
                return use(self._client())
        except redis.RedisError as error:
            raise failure(error, self._url) from error

    def _client(self) -> redis.Redis:
        client = self._clients.get(os.getpid())
        if client is None:
            client = self._clients.setdefault(os.getpid(), sync_client(self._url, name=self._client_name))
        return client


def _facts(text: bytes) -> Mapping[str, object]:
    """What a worker says of itself; nothing where no worker of ours has said it."""
    try:
        facts = read_json(text)
    except ValueError as error:
        logger.error("announcement refused", extra={"reason": str(error)})
        return {}
    return facts if isinstance(facts, dict) and isinstance(facts.get("worker"), str) else {}


def _seconds(ttl_seconds: float) -> str:
    return repr(min(float(ttl_seconds), LONGEST_SECONDS))
