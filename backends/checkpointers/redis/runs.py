"""The runs in Redis: whose each is, and where it stands."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from redis.asyncio.client import Pipeline

from backends.checkpointers.redis.row import (
    error_text,
    metadata_text,
    microseconds,
    run_of,
    step_text,
    to_number,
    to_time,
)
from backends.checkpointers.redis.space import RedisSpace
from orchestrator.checkpoint.protocol import RunIsOver
from orchestrator.checkpoint.row import NewRun, Ownership, Renewal, Run, RunFilter, RunOrder, RunStatus, Seen, Step
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import CheckpointNotFound, RunAmbiguous, RunExists, RunIsDriven

_PAGE_RUNS = 100
_CATCH_UP_RUNS = 1000


class RedisRuns(RedisSpace):
    """What a `RunStore` does."""

    async def create(self, run: NewRun) -> Run:
        first = Step(
            position=0,
            namespace=(),
            node="",
            state=run.state,
            invocation_id=run.run_id,
            schema_version=run.schema_version,
        )
        told = {"graph": run.graph, "fingerprint": run.fingerprint, "correlation_id": run.correlation_id}
        more = {} if run.code_version is None else {"code_version": run.code_version}
        if run.metadata:
            more["metadata"] = metadata_text(run.metadata)
        fields = {**told, "schema_version": run.schema_version, **more}
        flat = [part for field in fields.items() for part in field]
        text = step_text(first)
        is_new = await self._script("create", run.run_id, 0, run.run_id, run.run_id, "", text, *flat)
        kept = await self._get(run.run_id)
        if not is_new:
            _, _, kept_text = (await self._command("HGET", f"{self._keys.run(run.run_id)}steps", 0)).partition(b"\n")
            if kept_text.decode() != text or not run.is_kept_as(kept, run.state):
                raise RunExists(run.run_id)
        return kept

    async def acquire(
        self,
        run_id: str,
        owner: str,
        *,
        invocation_id: str,
        lease: timedelta,
        seen: Seen | None = None,
        fingerprint: str | None = None,
    ) -> Ownership:
        epoch, is_dead = ("", 0) if seen is None else (seen.epoch, int(seen.has_dead_owner))
        told = (owner, invocation_id, microseconds(lease), epoch, is_dead, fingerprint or "")
        answer = await self._script("acquire", run_id, 0, *told)
        if answer[0] == b"missing":
            raise CheckpointNotFound(run_id)
        if answer[0] == b"over":
            raise RunIsOver(run_id, RunStatus(answer[1].decode()))
        if answer[0] == b"driven":
            raise RunIsDriven(run_id, answer[1].decode() or "another process")
        return Ownership(run_id, invocation_id, answer[1])

    async def renew(self, ownership: Ownership, *, lease: timedelta, health: str | None = None) -> Renewal:
        is_cancel_requested = await self._owned("renew", ownership, microseconds(lease), health or "")
        return Renewal(is_cancel_requested=bool(is_cancel_requested))

    async def finish(self, ownership: Ownership, status: RunStatus, *, error: ErrorRecord | None = None) -> None:
        has_ended = int(status.has_ended)
        await self._owned("finish", ownership, status.value, has_ended, error_text(error), ownership.invocation_id)

    async def find(self, run_id: str) -> Run:
        if not run_id.isprintable() or not run_id:
            raise CheckpointNotFound(run_id)
        found = await self._runs([run_id])
        if found:
            return found[0]
        index = self._keys.index
        of_invocation = await self._command("HGET", f"{index}invocations", run_id)
        if of_invocation is not None:
            return await self._get(of_invocation.decode())
        prefix = f"[{run_id}".encode()
        names = await self._command("ZRANGEBYLEX", f"{index}names", prefix, prefix + b"\xff")
        matches = tuple(name.decode() for name in names)
        if len(matches) > 1:
            raise RunAmbiguous(run_id, matches)
        return await self._get(matches[0] if matches else run_id)

    async def list_runs(self, which: RunFilter) -> list[Run]:
        wanted: list[Run] = []
        runs = self._newest_first() if which.order is RunOrder.NEWEST else self._in_order(which)
        async for run in runs:
            if len(wanted) == which.limit:
                break
            if which.wants(run):
                wanted.append(run)
        return wanted

    async def request_cancel(self, run_id: str) -> Run:
        await self._script("cancel", run_id, 0)
        return await self._get(run_id)

    async def delete(self, run_id: str) -> None:
        await self._script("delete", run_id, 0)

    async def _get(self, run_id: str) -> Run:
        found = await self._runs([run_id])
        if not found:
            raise CheckpointNotFound(run_id)
        return found[0]

    async def _newest_first(self) -> AsyncIterator[Run]:
        first, names = 0, [b""]
        while names:
            names = await self._command("ZREVRANGE", f"{self._keys.index}runs", first, first + _PAGE_RUNS - 1)
            for run in await self._runs([name.decode() for name in names]):
                yield run
            first += _PAGE_RUNS

    async def _in_order(self, which: RunFilter) -> AsyncIterator[Run]:
        """Runs from where the list goes on; those of the mark's very moment are among them."""
        while await self._script("catch_up", "", 0, _CATCH_UP_RUNS):
            pass
        kind = "ended" if which.order is RunOrder.ENDED else "open" if which.is_of_open_ones else "runs"
        place: tuple[Any, int] = (to_number(which.after.time) if which.after else "-inf", 0)
        names = [b""] * _PAGE_RUNS
        while len(names) == _PAGE_RUNS:
            names, place = await self._page(f"{self._keys.index}{kind}", *place)
            for run in await self._runs([name.decode() for name in names]):
                yield run

    async def _page(self, index: str, low: Any, skipped: int) -> tuple[list[bytes], tuple[Any, int]]:
        """Members from a score on, without the first of them, and where those behind them begin."""
        limit = ("WITHSCORES", "LIMIT", skipped, _PAGE_RUNS)
        told = await self._command("ZRANGEBYSCORE", index, low, "+inf", *limit)
        names, scores = told[::2], told[1::2]
        if not names:
            return names, (low, skipped)
        last = scores[-1]
        before = skipped if last == low else 0
        return names, (last, before + scores.count(last))

    async def _runs(self, run_ids: Sequence[str]) -> list[Run]:
        """Those of them that there are, at one time of the server."""

        def fill(pipeline: Pipeline) -> None:
            pipeline.time()
            for run_id in run_ids:
                pipeline.hgetall(f"{self._keys.run(run_id)}run")

        (seconds, microseconds_more), *found = await self._together(fill)
        now = to_time(seconds * 1_000_000 + microseconds_more)
        return [run_of(fields, now) for fields in found if fields]
