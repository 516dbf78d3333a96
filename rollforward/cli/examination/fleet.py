"""What is asked of the workers that are alive, and of how they fit each other and this code."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from backends.health.redis import is_denied
from orchestrator.errors import OperatorError
from orchestrator.graph.registry import registry
from rollforward.cli.examination.canary import Version, patience, send_canaries
from rollforward.cli.examination.finding import Finding, refused, refused_by, warning, well
from rollforward.cli.record import redis_url
from workers.deafness import deafness
from workers.opening import open_worker_ledger
from workers.settings import Settings

Worker = Mapping[str, object]


def workers(settings: Settings) -> Iterator[Finding]:
    """Everything about the workers of this deployment; nothing where there is no Redis."""
    url = redis_url(settings)
    if url is None:
        return
    settings = settings.model_copy(update={"redis_url": url})
    with closing(open_worker_ledger(settings)) as ledger:
        live = ledger.workers()
        if not live:
            yield warning("workers", "none is alive", "start one with `rollforward worker`")
            return
        yield well("workers", f"{len(live)} alive")
        for worker in live:
            yield from _of_worker(worker, settings)
        yield from fitting(live, registry.known())
        yield from _canaries(live, settings, ledger.workers)


def fitting(live: Sequence[Worker], known: Sequence[Version]) -> Iterator[Finding]:
    """Whether the workers have the same graphs and the same code, and `known`, which is what this process has."""
    fingerprints: dict[str, set[str]] = defaultdict(set)
    for worker in live:
        for graph, fingerprint in _versions(worker):
            fingerprints[graph].add(fingerprint)
    here = dict(known)
    for graph in sorted(fingerprints | here):
        yield _of_graph(graph, fingerprints[graph], here.get(graph))
    yield from _code_versions(live)


def _of_worker(worker: Worker, settings: Settings) -> Iterator[Finding]:
    name = str(worker["worker"])
    graphs = ", ".join(map(_shown, _versions(worker)))
    yield well(
        "worker", f"{worker.get('slots')} places, {worker.get('free')} free; {graphs or 'no graphs'}", subject=name
    )
    told = deafness(worker, settings)
    if told is not None:
        found, _, way_out = told.partition("; ")
        yield refused("worker_consumes", found, way_out, subject=name)
    if worker.get("refused_messages"):
        found = f"it refused {worker['refused_messages']} messages since it started"
        way_out = "see its log; most likely ROLLFORWARD_SECRET is not the same there as where runs are driven"
        yield warning("worker_messages", found, way_out, subject=name)


def _of_graph(graph: str, on_workers: set[str], here: str | None) -> Finding:
    check = "graph_fingerprint"
    shown = ", ".join(sorted(on_workers))
    if here is not None and here not in on_workers:
        found = f"no live worker has the version of this code ({here})" + (f", they have {shown}" if on_workers else "")
        way_out = "bring this code and the workers' to one version, with its module in ROLLFORWARD_GRAPHS"
        return refused(check, found, way_out, subject=graph)
    if len(on_workers) > 1:
        way_out = (
            "let runs of the older version end, or go on with them by `resume --accept-code`; then stop its workers"
        )
        return warning(check, f"workers have several versions: {shown}", way_out, subject=graph)
    return well(check, shown, subject=graph)


def _code_versions(live: Sequence[Worker]) -> Iterator[Finding]:
    for fact, check in (("code_version", "code_version"), ("version", "rollforward_version")):
        told: dict[str, list[str]] = defaultdict(list)
        for worker in live:
            told[str(worker.get(fact))].append(str(worker["worker"]))
        if len(told) == 1:
            yield well(check, next(iter(told)))
            continue
        shown = "; ".join(f"{version} on {', '.join(names)}" for version, names in sorted(told.items()))
        yield warning(check, f"workers run several versions: {shown}", "end the deploy: start the others anew")


def _canaries(live: Sequence[Worker], settings: Settings, look: Callable[[], Sequence[Worker]]) -> Iterator[Finding]:
    """Whether what is sent to the workers of each graph version is claimed; of those that are deaf it is known."""
    able: dict[Version, list[Worker]] = defaultdict(list)
    for worker in live:
        for version in _versions(worker) if deafness(worker, settings) is None else ():
            able[version].append(worker)
    awaited = [version for version, having in able.items() if any(worker.get("free") for worker in having)]
    for version in sorted(able.keys() - set(awaited)):
        yield well("canary", "not sent: no place is free", subject=_shown(version))
    before = _refusals(live)
    try:
        answers = send_canaries(settings, awaited, are_refused=lambda: _refusals(look()) - before)
    except OperatorError as error:
        denied = well("canary", "not sent: this user of Redis may not queue, the orchestrator's may")
        yield denied if is_denied(error) else refused_by("canary", error)
        return
    is_refused = _refusals(look()) > before
    for version in awaited:
        answer = answers.get(version)
        if answer is not None:
            yield well("canary", f"claimed by {answer.worker} after {answer.seconds:.2f} s", subject=_shown(version))
        else:
            yield _unanswered(_shown(version), able[version], is_refused, settings)


def _unanswered(subject: str, able: Sequence[Worker], is_refused: bool, settings: Settings) -> Finding:
    names = ", ".join(str(worker["worker"]) for worker in able)
    if is_refused:
        way_out = "set the same ROLLFORWARD_SECRET there and here"
        return refused("canary", f"{names} did not claim it, and messages were refused", way_out, subject=subject)
    found = f"{names} alive, and none claimed it within {patience(settings):.0f} s"
    return refused("canary", found, "look at their logs, and start them anew", subject=subject)


def _refusals(live: Sequence[Worker]) -> int:
    counts = (worker.get("refused_messages") for worker in live)
    return sum(count for count in counts if isinstance(count, int))


def _shown(version: Version) -> str:
    return f"{version[0]} ({version[1]})"


def _versions(worker: Worker) -> list[Version]:
    graphs = worker.get("graphs")
    return [(str(name), str(fingerprint)) for name, fingerprint in graphs] if isinstance(graphs, list) else []
