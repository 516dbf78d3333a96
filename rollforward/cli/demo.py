"""`rollforward demo`."""

from pathlib import Path

import click

from rollforward.cli.verb import Verb
from rollforward.demo.stage import DemoFailed, find_checkout
from rollforward.demo.story import tell


@click.command(cls=Verb)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    default=Path("stdlib_audit.json"),
    show_default=True,
    help="Where the audit's report goes.",
)
def command(report: Path) -> None:
    """Audit the standard library, kill a worker and the orchestrator midway, resume, and verify."""
    try:
        tell(find_checkout(), report.absolute())
    except DemoFailed as error:
        raise click.ClickException(str(error)) from error
