"""What befalls the process that drives the run, and the store that it writes to, while the nth instance runs."""

import asyncio
import signal

from backends.opening import open_store
from orchestrator.checkpoint.row import Run
from tests.chaos.crash.world import RUN, WAIT_SECONDS, World


def commit_together(world: World, nth: int) -> None:
    """The reports of all instances come in at once: `nth` is how many there are."""
    world.hold(*range(1, nth + 1))
    for number in range(1, nth + 1):
        world.wait_until_held(number)
    world.signal_command(signal.SIGSTOP)
    world.let_go()
    world.wait_until_reported(nth)
    world.signal_command(signal.SIGCONT)


def freeze_owner(world: World, nth: int) -> None:
    """O10: SIGSTOP the owner until a standby has the run, and wake it: it is fenced."""
    world.hold(nth)
    world.wait_until_held(nth)
    before, frozen = run_of(world).epoch, world.command
    frozen.send_signal(signal.SIGSTOP)
    world.let_go()
    world.drive("serve")
    world.wait_until(lambda: run_of(world).epoch > before, what="a standby takes the run over")
    frozen.send_signal(signal.SIGCONT)
    frozen.wait(timeout=WAIT_SECONDS)
    assert "another orchestrator has taken run" in world.log.read_text(), world.said()
    world.wait_until(lambda: run_of(world).status.is_over, what="the run ends")
    world.resume()


def take_store_away(world: World, nth: int) -> None:
    """S1: the store is away when the instance is to be recorded."""
    world.hold(nth)
    world.wait_until_held(nth)
    with world.store.away():
        world.let_go()
        world.wait_until_reported(1)


def refuse_writes(world: World, nth: int) -> None:
    """S2: the store takes no writes when the instance is to be recorded."""
    world.hold(nth)
    world.wait_until_held(nth)
    with world.store.read_only(world.command.pid):
        world.let_go()
        world.wait_until_reported(1)
        world.wait_until(lambda: "waiting for a service" in world.log.read_text(), what="a commit is refused")


def restore_older(world: World, nth: int) -> None:
    """S3: the store is restored from a backup that lacks the instance: refused, then accepted."""
    _restore(world, nth)
    refused = world.tried("resume", RUN, "-o", "json")
    assert refused.code != 0, refused.stdout
    assert f"`rollforward resume {RUN} --accept-older-record`" in refused.stderr, refused.stderr
    world.resume("--accept-older-record")


def restore_older_redis(world: World, nth: int) -> None:
    """S3 where the ledger goes back with the store: there is nothing to refuse."""
    _restore(world, nth)
    world.resume()


def run_of(world: World) -> Run:
    """The run as the store has it."""

    async def find() -> Run:
        store = open_store(world.store.url, namespace="rollforward")
        try:
            return await store.find(RUN)
        finally:
            await store.close()

    return asyncio.run(find())


def _restore(world: World, nth: int) -> None:
    world.hold(nth, nth + 1)
    world.wait_until_held(nth)
    world.kill_command()
    world.store.back_up()
    world.let_go()
    world.resume()
    world.wait_until_held(nth + 1)
    world.kill_command()
    world.store.restore()
    world.let_go()
