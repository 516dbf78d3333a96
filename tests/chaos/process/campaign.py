"""One deployment under waves of faults, until its runs are over and judged."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.chaos.process.deployment import Deployment, NotWithin
from tests.chaos.process.fault import inject
from tests.chaos.process.field import Fault, Field
from tests.chaos.process.schedule import Wave
from tests.chaos.process.size import Size
from tests.chaos.process.verdict import Verdict, judged
from tests.service.postgres import PostgresServer

DUPLICATES = 0.05
PROGRESS_SECONDS = 60.0


class Campaign:
    """Its faults and its verdict are what is known so far, also where it is broken off."""

    def __init__(
        self, waves: Sequence[Wave], *, size: Size, seed: int, added: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self.faults: list[Fault] = []
        self.verdict = Verdict()
        self._waves = waves
        self._size = size
        self._seed = seed
        self._added = added

    async def play(self, folder: Path, postgres: PostgresServer | None) -> None:
        """Let the faults come, wave after wave, and judge what they did."""
        deployment = Deployment(
            folder, size=self._size, seed=self._seed, postgres=postgres, duplicates=DUPLICATES, added=self._added
        )
        field = Field(deployment, seed=self._seed)
        self.faults = field.faults
        try:
            await deployment.start()
            await self._suffer(field)
            self.verdict = await judged(deployment, self._size.instances, field.faults)
            self.verdict.wrong += field.wrong
        finally:
            await deployment.close()

    async def _suffer(self, field: Field) -> None:
        async with _beside(field.watch()), _beside(self._tell_progress(field)):
            async with _beside(_supply(field.deployment)):
                for wave in self._waves:
                    await self._inject(field, wave)
            await field.deployment.until_over(self._size.patience)
            await field.look()

    async def _inject(self, field: Field, wave: Wave) -> None:
        under_way = [inject(field, kind, is_alone=wave.is_measured) for kind in wave.kinds]
        for kind, ended in zip(wave.kinds, await asyncio.gather(*under_way, return_exceptions=True), strict=True):
            if isinstance(ended, NotWithin):
                continue
            if isinstance(ended, BaseException):
                raise RuntimeError(f"{kind} could not be done") from ended

    async def _tell_progress(self, field: Field) -> None:
        began, count = time.monotonic(), sum(len(wave.kinds) for wave in self._waves)
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            told = " ".join(f"{kind}={n}" for kind, n in sorted(Counter(f.kind for f in field.faults).items()))
            minutes = (time.monotonic() - began) / 60
            over, submitted = len(field.deployment.over), len(field.deployment.submitted)
            done = f"{len(field.faults)} of {count} faults, {over} of {submitted} runs are over"
            sys.stderr.write(f"{minutes:.0f} min: {done}; {told}\n")


async def _supply(deployment: Deployment) -> None:
    """Submit a run whenever one is over."""
    while True:
        if len(await deployment.going_on()) < deployment.size.runs:
            await deployment.submit(deployment.size.instances)
        await asyncio.sleep(0.2)


@asynccontextmanager
async def _beside(what: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Let something go on until the end of this; if it fails, so does this."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(what)
        yield
        task.cancel()
