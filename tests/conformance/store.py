"""Checkpoint stores of fixtures: watched at every save, batched, or crashing at one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.checkpoint.row import Ownership, SlotRow, Step

if TYPE_CHECKING:
    from orchestrator.checkpoint.record import CheckpointRecord


class Crashed(Exception):
    """The process that wrote is no more; nothing comes after."""


class Around:
    """A store that passes everything on to another one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Watched(Around):
    """Keeps the whole record after every save, with the node that it came after (None: an instance)."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.saves: list[tuple[str | None, CheckpointRecord]] = []

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        await self._inner.save_step(ownership, step)
        await self._note(ownership, step.node)

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        first: int = await self._inner.record(ownership, rows)
        await self._note(ownership, None)
        return first

    async def _note(self, ownership: Ownership, node: str | None) -> None:
        record = await self._inner.load(ownership.run_id)
        assert record is not None
        self.saves.append((node, record))


class Batched(Around):
    """Holds back what fan-out instances save until there are `flush_every`, or a node saves; a crash loses the rest."""

    def __init__(self, inner: Any, flush_every: int) -> None:
        super().__init__(inner)
        self._flush_every = flush_every
        self._held: list[tuple[Ownership, SlotRow]] = []

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        self._held += [(ownership, row) for row in rows]
        completed = sum(row.is_contribution for _, row in self._held)
        if completed >= self._flush_every:
            await self._flush()
        return len(rows)

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        await self._flush()
        await self._inner.save_step(ownership, step)

    def lose(self) -> None:
        """Forget what is held back, as a process does that ends."""
        self._held.clear()

    async def _flush(self) -> None:
        held, self._held = self._held, []
        for ownership, row in held:
            await self._inner.record(ownership, [row])


class Crashing(Around):
    """Ends the process, as far as the store can tell, right after one save: every later call fails.

    `aborts` where only the fan-out fails at that save, and the process lives on to give its run up.
    """

    def __init__(
        self, inner: Any, *, node: str | None = None, instance: tuple[str, int] | None = None, aborts: bool = False
    ) -> None:
        super().__init__(inner)
        self._node = node
        self._instance = instance
        self._aborts = aborts
        self._fan_outs: dict[str, str] = {}
        self.has_crashed = False

    def __getattr__(self, name: str) -> Any:
        if self.has_crashed and not self._aborts:
            raise Crashed
        return super().__getattr__(name)

    async def open_fan_out(self, ownership: Ownership, row: Any) -> Any:
        self._fan_outs[row.id] = row.key.node
        return await self.__getattr__("open_fan_out")(ownership, row)

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        await self.__getattr__("save_step")(ownership, step)
        if step.node == self._node:
            self._crash()

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        record = self.__getattr__("record")
        for place, row in enumerate(rows):
            slot = row.report.slot
            if (self._fan_outs.get(slot.fan_out), slot.index) == self._instance and not self.has_crashed:
                await record(ownership, rows[: place + 1])
                self._crash()
        if self.has_crashed:
            raise Crashed
        written: int = await record(ownership, rows)
        return written

    def _crash(self) -> None:
        self.has_crashed = True
        raise Crashed
