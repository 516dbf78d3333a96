"""`rollforward worker`."""

from typing import Any

import click

from orchestrator.errors import CallerError
from orchestrator.graph.registry import registry
from rollforward.cli.setting import SettingsRefused, read_settings
from rollforward.cli.verb import Verb
from rollforward.embedded.folder import DEFAULT_PATH, Folder
from rollforward.log import configure_logging
from workers.graph_list import load_graphs
from workers.launch import run_worker
from workers.metering import Metering

_LEVELS = click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False)


class WorkerNeedsRedis(CallerError):
    """There is no ledger to work from."""

    category = "needs_deployment"

    def __init__(self) -> None:
        super().__init__("a worker needs ROLLFORWARD_REDIS_URL, or an embedded run going on in this folder")


@click.command(cls=Verb)
@click.option("-c", "--concurrency", type=click.IntRange(min=1), help="Places; by default one per processor.")
@click.option("--pool", type=click.Choice(["prefork", "threads", "solo"]), default="prefork", show_default=True)
@click.option("-n", "--name", metavar="NAME@HOST", help="The worker's name; %h is the host's.")
@click.option("-l", "--loglevel", type=_LEVELS, default="warning", show_default=True)
def command(**options: Any) -> None:
    """Run a worker with the graphs of ROLLFORWARD_GRAPHS until it is stopped."""
    settings = read_settings()
    url = settings.redis_url or Folder(DEFAULT_PATH).live_redis_url
    if url is None:
        raise WorkerNeedsRedis
    configure_logging(options["loglevel"].upper())
    metering = Metering()
    metering.open(settings)
    load_graphs(settings.graphs)
    if not registry.known():
        raise SettingsRefused("this worker has no graphs; list their modules in ROLLFORWARD_GRAPHS")
    run_worker(settings.model_copy(update={"redis_url": url}), metering=metering, **options)
