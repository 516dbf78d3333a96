"""`rollforward config`."""

from dataclasses import asdict

import click

from rollforward.cli.output import print_rows
from rollforward.cli.setting import origins, read_settings
from rollforward.cli.verb import Verb, output_option


@click.command(cls=Verb)
@output_option()
def command(output: str) -> None:
    """Print each setting and where it came from; secrets and passwords are hidden."""
    rows = [asdict(origin) for origin in origins(read_settings(), {})]
    print_rows(rows, output, columns=("name", "value", "source"))
