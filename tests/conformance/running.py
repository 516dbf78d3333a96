"""Runs one case and keeps everything that can be said about it."""

import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backends.opening import open_store
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.compiled import CompiledGraph
from orchestrator.errors import RollforwardError
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.execution.stepping import local_lane
from orchestrator.observers.delivery import DrainSummary
from orchestrator.observers.event import Event, NodeEvent
from orchestrator.observers.observation import Observation
from orchestrator.observers.subscription import Subscription
from orchestrator.scope import get_invocation_metadata
from tests.conformance.building import LABEL, Building
from tests.conformance.document import Case, Section, UnknownDirective
from tests.conformance.observer_kind import Log, attach
from tests.conformance.queryable import queryable
from tests.conformance.scene import Scene
from tests.conformance.seeding import RUN_ID, seeded
from tests.conformance.span_forest import Forest, ours
from tests.conformance.store import Batched, Crashing, Watched
from tests.conformance.watching import Watch
from tests.conformance.world import World

OBSERVED = "observability/"
"""How the addresses of the cases begin that are traced."""

MakeLane = Callable[[CompiledGraph[Any]], Lane]
Start = Callable[[Sequence[Subscription]], Awaitable[Any]]


@dataclass
class Run:
    """One invocation of a case."""

    final: Any = None
    error: BaseException | None = None
    run_id: str = ""
    invocation_id: str = ""
    correlation_id: str = ""
    events: list[Event] = field(default_factory=list)
    drain: DrainSummary | None = None
    drain_seconds: float = 0.0
    log: list[tuple[str, Event]] = field(default_factory=list)
    name: str = ""
    forest: Forest = field(default_factory=lambda: Forest([]))
    logs: list[logging.LogRecord] = field(default_factory=list)

    @property
    def nodes(self) -> list[NodeEvent]:
        return [event for event in self.events if isinstance(event, NodeEvent)]


@dataclass
class Played:
    """A whole case after it was run."""

    case: Section
    world: World
    building: Building | None = None
    graph: CompiledGraph[Any] | None = None
    compile_error: RollforwardError | None = None
    store: Watched | None = None
    runs: list[Run] = field(default_factory=list)
    record: CheckpointRecord | None = None
    log: Log = field(default_factory=Log)
    direct: tuple[Any, BaseException | None] | None = None
    spans_of_everybody: tuple[Any, ...] = ()
    calls: int = 0

    @property
    def last(self) -> Run:
        return self.runs[-1]


def _checkpointer(section: Section) -> tuple[str, int]:
    """What is kept where, and how many saves of instances are held back."""
    if not isinstance(section.take("checkpointer", "in_memory"), dict):
        return section.take("checkpointer", "in_memory"), 1
    spec = section.section("checkpointer")
    return spec.take("kind"), spec.section("fan_out_internal_save_batching").take("flush_every", 1)


def _called_directly(played: Played) -> Played:
    """Call what the case names, outside any run."""
    section = played.case.section("direct_call")
    if section.take("operation") != "get_invocation_metadata":
        raise UnknownDirective(f"{section.path}.operation: {section.take('operation')}")
    try:
        played.direct = get_invocation_metadata(), None
    except Exception as error:  # noqa: BLE001 - that there is none is what the case says
        played.direct = None, error
    played.runs.append(Run())
    return played


def _values_of(key: str, values: Any) -> Iterator[Any]:
    """Whatever stands under that key, at any depth, in the order of the document."""
    for name, value in values.items() if isinstance(values, Mapping) else enumerate(values):
        if name == key:
            yield value
        elif isinstance(value, Mapping | list):
            yield from _values_of(key, value)


def options() -> Options:
    return Options(owner="conformance")


class Player:
    """Plays a case: compiles its graph, invokes it as often as the case says, and resumes it."""

    def __init__(
        self,
        case: Case,
        stack: AsyncExitStack,
        make_lane: MakeLane | None = None,
        *,
        scene: Scene | None = None,
    ) -> None:
        self._case = case
        self._stack = stack
        self._make_lane = make_lane or (lambda graph: local_lane(graph, options(), tracing=self._watch.tracing))
        self.played = Played(case.section(), World())
        self._section = self.played.case
        self._store: Any = None
        self._batched: Batched | None = None
        is_observed = case.address.startswith(OBSERVED)
        self._scene = scene if is_observed else None
        self._watch = Watch(self._scene, self._section)
        stack.callback(self._watch.close)

    async def play(self) -> Played:
        played = self.played
        if "direct_call" in self._section:
            return _called_directly(played)
        played.building = Building(self._section, played.world, f"{LABEL}{self._case.address}")
        try:
            played.graph = played.building.graph()
        except RollforwardError as error:
            played.compile_error = error
            return played
        attach(
            self._section.listed("observers"),
            played.graph,
            played.building.subgraphs,
            log=played.log,
            world=played.world,
        )
        played.world.queryable |= queryable(self._section.listed("queryable_observers"))
        played.log.of_invocation += [Subscription.of(one) for one in played.world.queryable.values()]
        if self._section.take("informative", default=True) is not True:
            raise UnknownDirective(f"{self._section.path}.informative")
        self._open_store()
        with self._on_scene():
            await self._play(played.graph)
        return played

    @contextmanager
    def _on_scene(self) -> Iterator[None]:
        """Have models answer as the case says, and keep what is told to everybody."""
        section, scene = self._section, self._scene
        answers = section.take("mock_llm") or []
        everybody = section.take("caller_global_otel_active", default=False)
        if scene is None:
            yield
            return
        inline = [call["response"] for call in _values_of("calls_llm", section.values) if "response" in call]
        scene.begin(answers, inline)
        exporter = scene.of_everybody() if everybody else None
        yield
        self.played.calls = scene.script.calls
        self.played.spans_of_everybody = () if exporter is None else exporter.get_finished_spans()

    @property
    def store(self) -> Any:
        """The case's store, once it is open."""
        assert self.played.store is not None
        return self.played.store

    def _open_store(self) -> None:
        kind, flush_every = _checkpointer(self._section)
        inner: Any
        if kind == "in_memory_batched":
            self._batched = Batched(MemoryStore(), flush_every)
            inner = self._batched
        elif kind == "sqlite":
            folder = self._stack.enter_context(tempfile.TemporaryDirectory())
            inner = open_store(f"sqlite:///{Path(folder) / 'state.db'}", namespace="conformance")
            self._stack.push_async_callback(inner.close)
        elif kind == "in_memory":
            inner = MemoryStore()
        else:
            raise UnknownDirective(f"checkpointer {kind}")
        self.played.store = Watched(inner)

    async def _play(self, graph: CompiledGraph[Any]) -> None:
        section = self._section
        if "seeded_record" in section:
            await self.store.seed(seeded(section.section("seeded_record"), graph))
            await self._resume(graph, section.section("resume"), RUN_ID)
        elif isinstance(section.take("invocations"), int):
            await self._invoke_often(graph, section.take("invocations"))
        elif "invocations" in section:
            for invocation in section.listed("invocations"):
                await self._invoke(graph, self._state(graph, invocation.take("initial_state")), invocation)
        elif "sequential_invocations" in section:
            await self._invoke_in_turn(graph, section.section("sequential_invocations"))
        elif "invoke_with" in section:
            await self._resume_unknown(graph, section.section("invoke_with").take("resume_invocation"))
        else:
            await self._invoke_often(graph, section.take("run_count", 1))
            if "resume" in section:
                await self._resume_first(graph, section.section("resume"))

    async def _invoke_often(self, graph: CompiledGraph[Any], times: int) -> None:
        for _ in range(times):
            await self._invoke(graph, self._state(graph, self._section.take("initial_state")), self._section)

    async def _invoke_in_turn(self, graph: CompiledGraph[Any], section: Section) -> None:
        if section.take("observer_persists_across") is not True:
            raise UnknownDirective(f"{section.path}.observer_persists_across")
        for one in section.listed("invocations"):
            state, run_id = self._state(graph, self._section.take("initial_state")), one.take("caller_invocation_id")
            await self._invoke(graph, state, self._section, run_id=run_id)
            self.played.last.name = one.take("name")

    async def _resume_unknown(self, graph: CompiledGraph[Any], run_id: str) -> None:
        await self._invoke_often(graph, self._section.take("populate_checkpointer_via_runs", 0))
        await self._drive(graph, self._start(graph, run_id))

    def _state(self, graph: CompiledGraph[Any], values: Any) -> Any:
        kind = graph.state_class
        if "runtime_state_subclass" in self._section:
            version = self._section.section("runtime_state_subclass").take("schema_version")
            kind = type("Runtime", (kind,), {"schema_version": version, "__module__": __name__})
        return kind.model_validate(values or {})

    async def _invoke(
        self, graph: CompiledGraph[Any], state: Any, section: Section, *, run_id: str | None = None
    ) -> None:
        store = self._crashing(self.store)
        orchestrator = Orchestrator(store, lane=self._lane(graph), options=options())
        ids = {
            "run_id": self._section.take("caller_invocation_id", run_id),
            "correlation_id": self._section.take("caller_correlation_id"),
            "metadata": {ours(name): value for name, value in self._section.take("caller_metadata", {}).items()},
        }

        async def start(subscriptions: Sequence[Subscription]) -> Any:
            run = await orchestrator.submit(graph, state, **ids)
            return await orchestrator.start(run.run_id, graph, observation=self._observation(subscriptions))

        drain = section.section("invoke").section("drain") if "invoke" in section else section.section("drain")
        timeout = drain.take("timeout_seconds")
        await self._drive(graph, start, timeout=timeout)
        if self._batched is not None:
            self._batched.lose()

    def _lane(self, graph: CompiledGraph[Any]) -> Lane:
        return self._make_lane(graph)

    def _crashing(self, store: Any) -> Any:
        if "crash_injection" in self._section:
            spec = self._section.section("crash_injection")
            at = spec.section("after_fan_out_instance")
            place = (at.take("node"), at.take("index")) if at.keys else None
            return Crashing(store, node=spec.take("after_node"), instance=place)
        for name, node in (self._section.take("nodes") or {}).items():
            index = (node.get("fan_out") or {}).get("abort_after_instance")
            if index is not None:
                return Crashing(store, instance=(name, index), aborts=True)
        return store

    def _start(self, graph: CompiledGraph[Any], run_id: str) -> Start:
        # The process that began the run is gone: its lease need not be waited for.
        orchestrator = Orchestrator(self.store, lane=self._lane(graph), options=options(), is_dead=lambda _owner: True)

        async def start(subscriptions: Sequence[Subscription]) -> Any:
            return await orchestrator.start(run_id, graph, observation=self._observation(subscriptions))

        return start

    def _observation(self, subscriptions: Sequence[Subscription]) -> Observation:
        told = Observation(tuple(subscriptions))
        return told if self._watch.tracing is None else replace(told, tracing=self._watch.tracing)

    async def _drive(
        self,
        graph: CompiledGraph[Any],
        start: Start,
        *,
        timeout: float | None = None,
    ) -> Run:
        run = Run()
        self.played.runs.append(run)
        told_before = len(self.played.log.entries)

        async def observe(event: Event) -> None:
            run.events.append(event)

        subscriptions = [*self.played.log.of_invocation, Subscription(observe)]
        with self._watch.logs() as run.logs:
            try:
                handle = await start(subscriptions)
                run.run_id, run.invocation_id = handle.run_id, handle.invocation_id
                run.final = await handle.result()
            except Exception as error:  # noqa: BLE001 - whatever ends a run is what its assertions are about
                run.error = error
        began = time.monotonic()
        run.drain = await graph.drain(timeout)
        run.drain_seconds = time.monotonic() - began
        run.log = self.played.log.entries[told_before:]
        if run.run_id:
            kept = await self.store.find(run.run_id)
            run.correlation_id = kept.correlation_id
        run.forest = await self._watch.forest(run.correlation_id)
        return run

    async def _resume_first(self, graph: CompiledGraph[Any], resume: Section) -> None:
        resume.take("from_first_run")
        first = self.played.runs[0]
        self.played.record = await self.store.load(first.run_id)
        changed = resume.take("resume_with_modified_items")
        run_id = first.run_id
        if changed is not None:
            assert self.played.record is not None
            # The same record, as it were with other items.
            other = replace(self.played.record, run_id=RUN_ID, state={**self.played.record.state, **changed})
            await self.store.seed(other)
            run_id = RUN_ID
        await self._resume(graph, resume, run_id)

    async def _resume(self, graph: CompiledGraph[Any], resume: Section, run_id: str) -> None:
        resume.take("from_seeded_record")
        resume.take("caller_invocation_id")
        await self._drive(graph, self._start(graph, run_id))
