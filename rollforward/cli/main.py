"""The command line: each verb is loaded when it is called, so that `--help` is quick."""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from orchestrator.log_line import SafeFormatter
from rollforward.cli.failure import USAGE, Ending
from rollforward.cli.verb import is_verbose, verbose_option

_VERBS = {
    "run": "Run a graph to its end.",
    "resume": "Go on with a run where it stopped.",
    "ls": "List runs.",
    "status": "Show where a run stands, and what is wrong.",
    "items": "Show the instances of a run.",
    "logs": "Print what the instances of a run put out.",
    "errors": "Show what failed in a run.",
    "results": "Print what the instances of a run gave.",
    "verify": "Prove that the record of a run adds up.",
    "cancel": "Cancel a run.",
    "worker": "Run a worker.",
    "serve": "Drive submitted and orphaned runs.",
    "migrate": "Bring the database to this version's schema.",
    "doctor": "Check the deployment.",
    "config": "Print each setting and where it came from.",
    "demo": "Show a run that is killed and resumed.",
    "version": "Print the version.",
}


class _LazyGroup(click.Group):
    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if not arguments:
            click.echo(context.get_help(), err=True)
            context.exit(USAGE)
        return super().parse_args(context, arguments)

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        command: click.Command = import_module(f"rollforward.cli.{name}").command
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


cli = _LazyGroup(
    "rollforward",
    help="Durable fan-out over Celery workers: kill anything, resume, and no finished instance runs twice.",
    params=[verbose_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    sys.exit(_run(sys.argv[1:] if arguments is None else list(arguments)))


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter(logging.Formatter("%(name)s: %(message)s")))
    logging.basicConfig(level=level, handlers=[handler])


def _run(arguments: list[str]) -> int:
    with Ending() as ending:
        ending.is_verbose = any(argument in ("-v", "--verbose") for argument in arguments)
        # What an orchestrator warns of is shown as the run's health; its log is for those who look closer.
        _log_to_stderr("WARNING" if ending.is_verbose else "CRITICAL")
        with cli.make_context("rollforward", arguments) as context:
            try:
                cli.invoke(context)
            finally:
                ending.is_verbose = is_verbose(context)
        sys.stdout.flush()
    return ending.exit_code
