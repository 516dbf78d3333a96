"""Tells a worker that lives and consumes nothing from one that has nothing to do."""

from collections.abc import Iterator, Mapping, Sequence

from workers.configuration import queue_name
from workers.settings import Settings

SHORTEST_SILENCE_SECONDS = 5.0
"""A busy host may hold up for so long what the broker answers every second."""

_WAY_OUT = "look at its log, and start it anew; what it holds comes back by itself"


def deafness(worker: Mapping[str, object], settings: Settings) -> str | None:
    """Say what is wrong with a worker that is alive and takes no messages, and what to do; None where it takes them.

    `worker` is what it announced: `silent_seconds` is for how long its consumer heard nothing although it had a free
    place, `queues` is what it consumes now. Where it does not tell, nothing is held against it.
    """
    silent = worker.get("silent_seconds")
    if isinstance(silent, int | float) and silent > max(settings.lease_seconds, SHORTEST_SILENCE_SECONDS):
        reason = f"has heard nothing from the broker for {silent:.0f} s, with a free place"
    elif missing := list(_missing_queues(worker, settings)):
        reason = f"does not consume {', '.join(missing)}, the queue of a graph that it has"
    else:
        return None
    return f"{worker['worker']} is alive and consumes nothing: it {reason}; {_WAY_OUT}"


def _missing_queues(worker: Mapping[str, object], settings: Settings) -> Iterator[str]:
    graphs, queues = worker.get("graphs"), worker.get("queues")
    if not isinstance(graphs, Sequence) or not isinstance(queues, Sequence):
        return
    for name, fingerprint in graphs:
        queue = queue_name(settings.namespace, name, fingerprint)
        if queue not in queues:
            yield queue
