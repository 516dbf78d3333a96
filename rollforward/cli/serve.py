"""`rollforward serve`."""

import asyncio
import logging
import os
import threading
from typing import NoReturn

import click

from rollforward.cli.drive import Interruption
from rollforward.cli.run import NeedsDeployment
from rollforward.cli.setting import SettingsRefused, read_settings
from rollforward.cli.verb import Verb
from rollforward.log import configure_logging
from rollforward.server import serve
from workers.graph_list import load_graphs
from workers.settings import Settings

log = logging.getLogger(__name__)

END_WITHIN_SECONDS = 12.0
"""A supervisor that kills waits for longer, and the lease of a run that was not handed back has ended by then."""


@click.command(cls=Verb)
@click.option("--most", type=click.IntRange(min=1), default=100, show_default=True, help="Runs driven at once.")
def command(most: int) -> None:
    """Drive submitted and orphaned runs whose graphs are in ROLLFORWARD_GRAPHS, until stopped.

    As many servers as you like may share a store: one of them owns a run at a time. SIGTERM hands runs back.
    """
    settings = read_settings()
    if settings.redis_url is None:
        raise NeedsDeployment("serve")
    if not settings.graphs:
        raise SettingsRefused("serve has no graphs; list their modules in ROLLFORWARD_GRAPHS")
    configure_logging()
    load_graphs(settings.graphs)
    asyncio.run(_serve(settings, most))


async def _serve(settings: Settings, most: int) -> None:
    with Interruption.caught() as interruption:
        ending = asyncio.create_task(_end_in_time(interruption.came))
        await serve(settings, most=most, until=interruption.came)
        ending.cancel()


async def _end_in_time(asked: asyncio.Event) -> None:
    """Once asked to, end the process soon, also where a store does not answer: threads that wait for it have no end."""
    await asked.wait()
    timer = threading.Timer(END_WITHIN_SECONDS, _end_at_once)
    timer.daemon = True
    timer.start()


def _end_at_once() -> NoReturn:
    log.warning("ended while the store did not answer, its runs wait for their leases to end")
    os._exit(1)
