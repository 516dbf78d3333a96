"""Who else is in our Redis."""

import asyncio
from collections.abc import Collection, Iterator, Sequence

from backends.checkpointers.sql.migration import SchemaState, schema_state
from backends.health.keyspace import Keyspace, inspect_keyspace
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.errors import CheckpointNotFound, OperatorError, RunAmbiguous
from orchestrator.graph.enclosing import inner_graphs
from orchestrator.graph.node import FanOutNode
from orchestrator.graph.registry import registry
from rollforward.assembly import opened_store
from rollforward.cli.examination.finding import Finding, warning, well
from rollforward.cli.examination.role import Role, roles
from rollforward.cli.output import counted
from workers.message import CANARY_RUN_ID
from workers.settings import Settings

_MOST_EVENT_QUEUES = 100
_MOST_RUNS = 100
_SHOWN = 3


def keyspaces(settings: Settings) -> Iterator[Finding]:
    """The keys of each Redis database of this deployment."""
    for role in roles(settings):
        try:
            seen = inspect_keyspace(role.url, namespace=settings.namespace)
        except OperatorError:
            continue  # said already, where the server is examined
        if seen is None:
            yield well("redis_keys", "hidden by the server", subject=role.name)
        else:
            yield from _judged(role, seen, settings)


def _judged(role: Role, seen: Keyspace, settings: Settings) -> Iterator[Finding]:
    found = [
        *_foreign(role.name, seen),
        *_clashing(role.name, seen, settings),
        *_left_behind(role.name, seen),
        *_unknown_runs(role.name, seen, settings),
    ]
    whole = "all of them ours" if seen.is_whole else "ours, as far as they were looked at"
    yield from found or [well("redis_keys", whole, subject=role.name)]


def _foreign(subject: str, seen: Keyspace) -> Iterator[Finding]:
    if seen.foreign:
        found = f"{counted(len(seen.foreign), 'key')} of other programs, such as {_some(seen.foreign)}"
        way_out = "give rollforward a Redis of its own: theirs may fill it, evict from it or flush it"
        yield warning("redis_keys", found, way_out, subject=subject)
    if seen.namespaces:
        found = f"the deployments {_some(seen.namespaces)} are in the same database"
        way_out = "give each deployment a Redis of its own, or at least a database"
        yield warning("redis_keys", found, way_out, subject=subject)


def _clashing(subject: str, seen: Keyspace, settings: Settings) -> Iterator[Finding]:
    """What looks like ours and is not: another Celery whose prefix for keys is, or begins as, ours."""
    fixed = _fixed_queues()
    queues = {name for name in seen.queues if not name.startswith(f"{settings.namespace}.") and name not in fixed}
    strange = seen.strange | {f"{settings.namespace}:mq:{name}" for name in queues}
    if strange:
        found = f"keys under our prefix that are none of ours, such as {_some(strange)}"
        way_out = "find out who else has this prefix (a Celery's global_keyprefix?), or set ROLLFORWARD_NAMESPACE"
        yield warning("namespace", found, way_out, subject=subject)


def _left_behind(subject: str, seen: Keyspace) -> Iterator[Finding]:
    if len(seen.event_queues) > _MOST_EVENT_QUEUES:
        found = (
            f"{len(seen.event_queues)} queues of Celery's events and remote control, such as {_some(seen.event_queues)}"
        )
        way_out = "delete those of workers that are gone, and leave gossip and mingle off, as `rollforward worker` does"
        yield warning("event_queues", found, way_out, subject=subject)


def _unknown_runs(subject: str, seen: Keyspace, settings: Settings) -> Iterator[Finding]:
    runs = sorted(seen.runs - {CANARY_RUN_ID})[:_MOST_RUNS]
    try:
        unknown = asyncio.run(_not_recorded(runs, settings)) if runs and _can_be_asked(settings) else []
    except OperatorError:
        return  # said already, where the checkpoint store is examined
    if unknown:
        found = f"{counted(len(unknown), 'run')} in flight that this store knows nothing of, such as {_some(unknown)}"
        way_out = "give each deployment its own ROLLFORWARD_NAMESPACE, or the one ROLLFORWARD_CHECKPOINT_URL of all"
        yield warning("namespace", found, way_out, subject=subject)


async def _not_recorded(runs: Sequence[str], settings: Settings) -> list[str]:
    async with opened_store(settings) as store:
        return [run for run in runs if not await _is_recorded(run, store)]


async def _is_recorded(run_id: str, store: CheckpointStore) -> bool:
    try:
        return (await store.find(run_id)).run_id == run_id
    except (CheckpointNotFound, RunAmbiguous):
        return False


def _can_be_asked(settings: Settings) -> bool:
    """Whether a store is there that looking does not make, or bring to another version."""
    url = settings.checkpoint_url
    if url.startswith("memory"):
        return False
    return url.startswith(("redis", "unix")) or schema_state(url, settings.namespace) is SchemaState.OK


def _fixed_queues() -> set[str]:
    """The queues that the graphs of this process name themselves."""
    graphs = [graph for known in registry.known() for graph in inner_graphs(registry.find(*known))]
    nodes = [node for graph in graphs for node in graph.nodes.values()]
    return {node.queue for node in nodes if isinstance(node, FanOutNode) and node.queue}


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN])
