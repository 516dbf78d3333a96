"""What befalls Redis while the nth instance runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.crash.store import roll_back, size_of_aof
from tests.chaos.crash.world import World


def restart(world: World, nth: int) -> None:
    """R1: SIGKILL it, and start it again on its append-only file."""
    with _running(world, nth):
        world.redis.kill()
        world.redis.start()


def lose_tail(world: World, nth: int) -> None:
    """R2: SIGKILL it, and start it on what its append-only file was while the instance before this one ran."""
    size = size_of_aof(world.redis)
    if nth > 1:
        world.hold(nth - 1)
        world.wait_until_held(nth - 1)
        size = size_of_aof(world.redis)
    world.hold(nth)
    world.let_go()
    world.wait_until_held(nth)
    roll_back(world.redis, size)
    world.let_go()


def wipe(world: World, nth: int) -> None:
    """R3: FLUSHALL."""
    with _running(world, nth), world.redis.client() as client:
        client.flushall()


def fill(world: World, nth: int) -> None:
    """R4: it has no memory when the instance is to be reported."""
    with world.redis.client() as client:
        with _running(world, nth):
            client.config_set("maxmemory", 1)
        _wait_until_refused(world)
        client.config_set("maxmemory", 0)


def turn_read_only(world: World, nth: int) -> None:
    """R5: it is a replica of nobody when the instance is to be reported."""
    with world.redis.client() as client:
        with _running(world, nth):
            client.replicaof("127.0.0.1", "1")
        _wait_until_refused(world)
        client.replicaof("NO", "ONE")


@contextmanager
def _running(world: World, nth: int) -> Iterator[None]:
    world.hold(nth)
    world.wait_until_held(nth)
    yield
    world.let_go()


def _wait_until_refused(world: World) -> None:
    log = world.worker.log
    world.wait_until(lambda: "ledger away, asking again" in log.read_text(), what="a report is refused")
