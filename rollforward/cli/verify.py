"""`rollforward verify`."""

import asyncio

import click

from orchestrator.checkpoint.row import RunStatus
from orchestrator.checkpoint.verify import Verification, verify
from rollforward.cli.failure import FAILED
from rollforward.cli.output import print_document, print_rows
from rollforward.cli.record import opened_record
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings

_COLUMNS = ("node", "expected", "recorded", "succeeded", "failed", "missing", "duplicates", "executions")


@click.command(cls=Verb)
@click.argument("run_id", metavar="RUN")
@output_option()
@click.pass_context
def command(context: click.Context, run_id: str, output: str) -> None:
    """Prove that the record of a run adds up; exit code 1 where it does not."""
    verification = asyncio.run(_verified(read_settings(), run_id))
    if output == "table":
        _print_table(verification)
    else:
        print_document(verification.to_json(), output)
    if not verification.ok:
        context.exit(FAILED)


async def _verified(settings: Settings, run_id: str) -> Verification:
    async with opened_record(settings, run_id) as record:
        has_succeeded = record.run.status is RunStatus.SUCCEEDED
        return await verify(record.store, record.run.run_id, has_succeeded=has_succeeded)


def _print_table(verification: Verification) -> None:
    print_rows([fan_out.to_json() for fan_out in verification.fan_outs], "table", columns=_COLUMNS)
    for fan_out in verification.fan_outs:
        for problem in fan_out.problems:
            click.echo(f"{fan_out.row.key.path}: {problem}")
    for problem in verification.problems:
        click.echo(problem)
    click.echo(f"{verification.run_id}: {'ok' if verification.ok else 'does NOT add up'}")
