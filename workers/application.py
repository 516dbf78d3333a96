"""Celery, set up for one task."""

import os
from collections.abc import Iterator
from typing import Any

from celery import Celery, signals
from celery.app.registry import TaskRegistry

from backends.telemetry.opening import open_worker_tracing
from orchestrator.errors import CallerError, RollforwardError
from orchestrator.graph.enclosing import inner_graphs
from orchestrator.graph.graph import Graph
from orchestrator.graph.node import FanOutNode
from orchestrator.graph.registry import registry
from workers import tasks
from workers.attendance import attend
from workers.configuration import celery_configuration, direct_queue, queue_name
from workers.credit import keep_credit
from workers.graph_list import load_graphs
from workers.hearing import listen
from workers.log_line import keep_lines_safe, log_tasks_in_one_place
from workers.metering import Metering
from workers.opening import require_redis
from workers.runtime import CurrentRuntime
from workers.settings import Settings
from workers.tracing import trace_worker


class OneTask(TaskRegistry):  # type: ignore[misc] # Celery has no types
    """Takes our task and no other: not Celery's built-ins, and not those that a user's modules bring."""

    def __setitem__(self, name: str, task: Any) -> None:
        if name == tasks.TASK_NAME:
            super().__setitem__(name, task)


def build_app(settings: Settings) -> Celery:
    """Make the Celery app of these settings; no graph is imported."""
    app = _bare_app(settings)
    tasks.register(app, settings)
    return app


def build_worker_app(settings: Settings, metering: Metering | None = None) -> Celery:
    """Make an app that imports its graphs where it starts a worker, and only there: Flower does without.

    `metering` may be open already, before others have imported them.
    """
    app = _bare_app(settings)
    runtime = tasks.register(app, settings, metering)

    def prepare(instance: Any, **_: Any) -> None:
        if instance.app is app:
            _serve_metrics(settings, runtime)
            keep_credit()
            listen()
            _consume_known_graphs(app, settings)
            _trace(runtime)
            attend(instance, settings, runtime)

    signals.celeryd_init.connect(prepare, weak=False)
    keep_lines_safe()
    log_tasks_in_one_place()
    return app


def _bare_app(settings: Settings) -> Celery:
    app = Celery("rollforward", tasks=OneTask(), set_as_current=False)
    app.conf.update(celery_configuration(settings))
    return app


def worker_queues(settings: Settings) -> list[str]:
    """The queues of the graphs that this process knows, and those that their fan-outs name."""
    known = registry.known()
    names = {queue_name(settings.namespace, graph, fingerprint) for graph, fingerprint in known}
    fixed = {queue for graph, fingerprint in known for queue in _fixed_queues(registry.find(graph, fingerprint))}
    return sorted(names | fixed)


def _fixed_queues(graph: Graph[Any]) -> Iterator[str]:
    for inner in inner_graphs(graph):
        yield from (node.queue for node in inner.nodes.values() if isinstance(node, FanOutNode) and node.queue)


def _trace(runtime: CurrentRuntime) -> None:
    try:
        traced = open_worker_tracing(os.environ)
    except CallerError as error:
        raise SystemExit(f"rollforward: {error}") from error
    if traced is not None:
        runtime.trace(traced)
        trace_worker(traced, runtime.metering.of_this_process)


def _serve_metrics(settings: Settings, runtime: CurrentRuntime) -> None:
    try:
        runtime.metering.open(settings)
    except RollforwardError as error:
        raise SystemExit(f"rollforward: {error}") from error


def _consume_known_graphs(app: Celery, settings: Settings) -> None:
    try:
        require_redis(settings)
        load_graphs(settings.graphs)
    except CallerError as error:
        raise SystemExit(f"rollforward: {error}") from error
    names = worker_queues(settings)
    if not names:
        raise SystemExit("rollforward: this worker has no graphs; list their modules in ROLLFORWARD_GRAPHS")
    app.conf.task_default_queue = names[0]
    app.conf.task_queues = [direct_queue(name) for name in names]
