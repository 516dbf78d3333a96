"""`rollforward doctor`."""

from dataclasses import asdict

import click

from rollforward.cli.examination import Grade, examine
from rollforward.cli.failure import FAILED
from rollforward.cli.output import print_document, print_rows
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option


@click.command(cls=Verb)
@output_option()
@click.pass_context
def command(context: click.Context, output: str) -> None:
    """Check the deployment: versions, Redis, database, clocks, workers; exit code 1 where something is refused."""
    findings = [asdict(finding) for finding in examine(read_settings())]
    is_well = all(finding["grade"] != Grade.REFUSED for finding in findings)
    if output == "json":
        print_document({"ok": is_well, "findings": findings}, output)
    else:
        print_rows(findings, output, columns=("check", "grade", "message"))
    if not is_well:
        context.exit(FAILED)
