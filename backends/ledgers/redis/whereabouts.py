"""In which runs an owner may hold leases, so that they are found when it dies."""

import os
import threading
from collections import defaultdict

import redis

from backends.ledgers.redis.keys import Keys
from orchestrator.ledger.owner import place_of

OWNER_SECONDS = 7 * 86_400
FEWEST = 16
"""So many runs are noted for an owner before it is looked which of them are over."""


class Whereabouts:
    """Notes in Redis where the owners of this process have claimed, once for each run; from any thread, after any fork.

    What is noted is at most twice as much as was open when it was looked at last: whoever releases an owner asks each
    of these runs. Errors are the client's.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._known: dict[str, set[str]] = defaultdict(set)
        self._most: dict[str, int] = {}
        self._locks: dict[int, threading.Lock] = {}

    def has(self, run_id: str, owner: str) -> bool:
        """Whether this process has noted it."""
        return run_id in self._known.get(owner, ())

    def note(self, client: redis.Redis, run_id: str, owner: str) -> None:
        """Note it in any case: Redis may have been lost since."""
        with self._lock():
            known = self._known[owner]
            if len(known) >= self._most.get(owner, FEWEST):
                self._drop_what_is_over(client, owner)
                self._most[owner] = max(FEWEST, 2 * len(known))
            self._enter(client, run_id, owner)
            known.add(run_id)

    def forget(self, owner: str) -> None:
        """Take note that Redis is asked to strike the owner out."""
        with self._lock():
            self._known.pop(owner, None)
            self._most.pop(owner, None)

    def _enter(self, client: redis.Redis, run_id: str, owner: str) -> None:
        with client.pipeline(transaction=False) as pipe:
            for key, member in (
                (self._keys.runs_of(owner), run_id),
                (self._keys.owners_at(place_of(owner)), owner),
            ):
                pipe.sadd(key, member)
                pipe.expire(key, OWNER_SECONDS)
            pipe.execute()

    def _drop_what_is_over(self, client: redis.Redis, owner: str) -> None:
        """Nothing is held in a run that was forgotten. One that is opened again tells its next claim that it is new."""
        runs = sorted(self._known[owner])
        with client.pipeline(transaction=False) as pipe:
            for run_id in runs:
                pipe.exists(self._keys.meta(run_id))
            over = [run_id for run_id, is_open in zip(runs, pipe.execute(), strict=True) if not is_open]
        if over:
            client.srem(self._keys.runs_of(owner), *over)
            self._known[owner].difference_update(over)

    def _lock(self) -> threading.Lock:
        # A lock that another thread held at a fork would stay locked in the child.
        return self._locks.setdefault(os.getpid(), threading.Lock())
