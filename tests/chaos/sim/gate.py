"""What stands between a simulated process and everything else."""

import asyncio

from orchestrator.errors import Fenced


class Gate:
    """Open while its process lives; shut while it is frozen; shut for good once it is dead.

    After `end` whatever still waits here is sent away: the simulation is over.
    """

    def __init__(self) -> None:
        self.is_dead = False
        self.is_frozen = False
        self._has_ended = False
        self._change = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return not (self.is_dead or self.is_frozen or self._has_ended)

    async def passing(self) -> None:
        while not self.is_open:
            if self._has_ended:
                raise Fenced("the simulation is over", 0)
            await self._change.wait()

    def freeze(self) -> None:
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False
        self._changed()

    def kill(self) -> None:
        self.is_dead = True

    def end(self) -> None:
        self._has_ended = True
        self._changed()

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
