"""A broker that loses and duplicates messages: it stands between publishers and workers."""

import base64
import contextlib
import json
import random
import threading
import time
from collections import deque
from concurrent.futures import Future

import redis

from tests.chaos.process.history import Place
from tests.service.redis import RedisServer

PUBLISHED = 1
HEARD = 0
"""The numbers of the two databases; the ledger is in the second as well."""
PREFIX = "rollforward:mq:"

Lost = tuple[Place, float]
"""Whose message was lost, and when."""


class Relay:
    """Carries messages until it is closed, on a thread of its own; counts what it did."""

    def __init__(self, server: RedisServer, *, seed: int, duplicates: float) -> None:
        self.carried = 0
        self.duplicated = 0
        self._server = server
        self._random = random.Random(seed)
        self._duplicates = duplicates
        self._to_lose: deque[Future[Lost]] = deque()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> "Relay":
        self._thread.start()
        return self

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(timeout=30)

    def lose_next(self) -> Future[Lost]:
        """Lose the next message; the answer comes when that has happened."""
        lost: Future[Lost] = Future()
        self._to_lose.append(lost)
        return lost

    def _run(self) -> None:
        while not self._is_over.is_set():
            # It is Redis that is killed, emptied and frozen here: whatever that answers, it will be back.
            with contextlib.suppress(redis.RedisError):
                self._carry()
            self._is_over.wait(0.05)

    def _carry(self) -> None:
        with self._at(PUBLISHED) as published, self._at(HEARD) as heard:
            while not self._is_over.is_set():
                queues = [key for key in published.keys(f"{PREFIX}rollforward.*") if not key.endswith(b".default")]
                if not queues:
                    self._is_over.wait(0.005)
                    continue
                for queue in queues:
                    self._pass_on(queue, published, heard)

    def _pass_on(self, queue: bytes, published: redis.Redis, heard: redis.Redis) -> None:
        for text in reversed(published.lrange(queue, 0, -1)):
            if self._to_lose:
                self._to_lose.popleft().set_result((place_of(text), time.monotonic()))
            else:
                times = 1 + (self._random.random() < self._duplicates)
                heard.lpush(queue, *[text] * times)
                self.carried += 1
                self.duplicated += times - 1
            published.rpop(queue)

    def _at(self, number: int) -> redis.Redis:
        return redis.Redis(port=self._server.port, db=number, socket_timeout=5)


def place_of(text: bytes | str) -> Place:
    """Which instance a message speaks of."""
    (argument, *_), *_ = json.loads(base64.b64decode(json.loads(text)["body"]))
    message = json.loads(argument.partition(" ")[2])
    return message["run_id"], message["places"][0][0]
