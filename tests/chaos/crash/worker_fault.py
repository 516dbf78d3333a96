"""What befalls a worker and its messages while the nth instance is at it."""

import os
import signal
from contextlib import suppress

import redis

from backends.lua_script import script
from tests.chaos.crash.world import World

MAX_DELIVERIES = 3
COPIES = 3


def lose_message(world: World, nth: int) -> None:
    """W1: SIGKILL the worker when it has popped the message, before it knows of it."""
    _popped(world, nth)
    world.worker.kill()
    world.start_worker()


def multiply_message(world: World, nth: int) -> None:
    """X1: the message comes three times."""
    queue, message = _popped(world, nth)
    with world.redis.client() as client:
        client.lpush(queue, *[message] * COPIES)
    world.worker.signal(signal.SIGCONT)


def kill_child(world: World, nth: int) -> None:
    """W4: SIGKILL the pool process."""
    world.hold(nth)
    os.kill(world.wait_until_held(nth), signal.SIGKILL)
    world.let_go()


def freeze_worker(world: World, nth: int) -> None:
    """W5: SIGSTOP the worker, and wake it once another one runs what it ran."""
    world.hold(nth)
    world.wait_until_held(nth)
    frozen = world.freeze_worker()
    world.start_worker()
    world.wait_until_begun(nth + 1)
    world.let_go()
    for process in frozen:
        process.resume()


def lose_reply(world: World, nth: int) -> None:
    """W7: the connection ends when the answer to the report comes."""
    world.proxy.cut_at(script("backends.ledgers.redis", "report").sha.encode(), after=nth - 1)
    world.wait_until(lambda: world.proxy.has_cut, what="a reply is lost")


def kill_every_time(world: World, nth: int) -> None:
    """W11: whichever process runs the instance dies."""
    world.hold(nth)
    for delivery in range(1, MAX_DELIVERIES + 1):
        pid = world.wait_until_held(nth)
        if delivery < MAX_DELIVERIES:
            world.hold(nth)
        os.kill(pid, signal.SIGKILL)
        world.let_go()


def part_worker(world: World, nth: int) -> None:
    """W12: the worker does not reach Redis until another one runs what it runs; it ends its own meanwhile."""
    world.hold(nth)
    world.wait_until_held(nth)
    with world.proxy.lost():
        world.start_worker()
        world.wait_until_begun(nth + 1)
        world.let_go()


def _popped(world: World, nth: int) -> tuple[bytes, bytes]:
    """The message of the nth instance and its queue, from which it is gone; the worker's parent is frozen."""
    if nth > 1:
        world.hold(nth - 1)
        world.wait_until_held(nth - 1)
    world.worker.signal(signal.SIGSTOP)
    with world.redis.client() as client:
        for one in client.client_list():
            if one["cmd"] == "brpop":
                # What it is given would be its own; it may have timed out just now.
                with suppress(redis.ResponseError):
                    client.client_kill_filter(_id=one["id"])
        world.let_go()
        found: list[tuple[bytes, bytes]] = []

        def is_popped() -> bool:
            queues = [key for key in client.keys("rollforward:mq:rollforward.*") if client.type(key) == b"list"]
            found.extend((queue, message) for queue in queues if (message := client.rpop(queue)) is not None)
            return bool(found)

        world.wait_until(is_popped, what="a message is in the queue")
    return found[0]
