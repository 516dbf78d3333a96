"""The graphs that are run, and what a serial run of them comes to."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from orchestrator.context import token
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.reducer import append
from orchestrator.state import State

if TYPE_CHECKING:
    from tests.chaos.sim.world import World

FAN_OUT = "work"


class Piece(State):
    number: int = 0
    fetched: int = 0
    out: int = 0


class Row(State):
    number: int = 0
    numbers: list[int] = []
    outs: Annotated[list[int], append] = []
    out: int = 0


class Whole(State):
    numbers: list[int] = []
    outs: Annotated[list[int], append] = []
    errors: list[dict[str, str]] = []
    turns: int = 0


def value_of(number: int) -> int:
    return number * number + 1


class Subject:
    """The graph of one simulation; its nodes sleep, fail and kill as the scenario says."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._failures: Counter[int] = Counter()
        build = {"nested": self._row, "outer": self._row, "durable": self._durable}
        self.graph = self._around(build.get(world.scenario.shape, self._piece)())

    def first(self) -> Whole:
        return Whole(numbers=list(range(self._world.scenario.count)))

    async def _work(self, state: Any) -> dict[str, Any]:
        scenario, number = self._world.scenario, state.number
        await asyncio.sleep(self._world.rng.uniform(0.01, scenario.slow))
        if number == scenario.poison:
            self._world.die_of(number)
            await asyncio.sleep(1)
        if number in scenario.failing:
            self._failures[number] += 1
            if scenario.shape != "fail_fast" or self._failures[number] == 1:
                raise ValueError("it fails")
        return {"out": value_of(number)}

    async def _fetch(self, state: Any) -> dict[str, Any]:
        self._note("fetch")
        await asyncio.sleep(self._world.rng.uniform(0.01, self._world.scenario.slow))
        return {"fetched": state.number * state.number}

    async def _parse(self, state: Any) -> dict[str, Any]:
        self._note("parse")
        await asyncio.sleep(self._world.rng.uniform(0.01, self._world.scenario.slow))
        return {"out": state.fetched + 1}

    def _note(self, node: str) -> None:
        """A durable node begins: an earlier delivery must not have completed it."""
        if node in self._world.witness.brought.get(token() or "", ()):
            self._world.witness.blame("a durable node that is kept does not run again", self._world.run_id, node)

    async def _inner(self, state: Any) -> dict[str, Any]:
        # Where it is dispatched by itself, it is an execution; inside an instance it is none.
        await asyncio.sleep(self._world.rng.uniform(0.01, self._world.scenario.slow / 2))
        return {"out": state.number}

    def _piece(self) -> Any:
        return GraphBuilder(Piece).add_node("do", self._work).set_entry("do").add_edge("do", END).compile()

    def _durable(self) -> Any:
        builder = GraphBuilder(Piece).add_node("fetch", self._fetch, durable=True).set_entry("fetch")
        builder.add_node("parse", self._parse, durable=True).add_edge("fetch", "parse")
        return builder.add_node("do", self._work).add_edge("parse", "do").add_edge("do", END).compile()

    def _row(self) -> Any:
        async def split(state: Any) -> dict[str, Any]:
            return {"numbers": [state.number * state.number, 1]}

        async def total(state: Any) -> dict[str, Any]:
            return {"out": sum(state.outs)}

        piece = GraphBuilder(Piece).add_node("do", self._inner).set_entry("do").add_edge("do", END).compile()
        return (
            GraphBuilder(Row)
            .add_node("split", split)
            .add_fan_out_node(
                "parts",
                subgraph=piece,
                items_field="numbers",
                item_field="number",
                collect_field="out",
                target_field="outs",
            )
            .add_node("total", total)
            .set_entry("split")
            .add_edge("split", "parts")
            .add_edge("parts", "total")
            .add_edge("total", END)
            .compile()
        )

    def _around(self, inner: Any) -> Any:
        scenario = self._world.scenario

        async def turn(state: Any) -> dict[str, Any]:
            return {"turns": state.turns + 1}

        return (
            GraphBuilder(Whole)
            .add_fan_out_node(
                FAN_OUT,
                subgraph=inner,
                items_field="numbers",
                item_field="number",
                collect_field="out",
                target_field="outs",
                errors_field="errors",
                concurrency=scenario.concurrency,
                error_policy="fail_fast" if scenario.shape == "fail_fast" else "collect",
                run_on="orchestrator" if scenario.shape == "outer" else "workers",
            )
            .add_node("turn", turn)
            .set_entry(FAN_OUT)
            .add_edge(FAN_OUT, "turn")
            .add_conditional_edge("turn", lambda state: END if state.turns >= scenario.visits else FAN_OUT)
            .compile("simulated")
        )
