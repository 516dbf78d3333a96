"""`rollforward version`."""

from importlib.metadata import version

import click

from rollforward.cli.output import print_document
from rollforward.cli.verb import Verb, output_option


@click.command(cls=Verb)
@output_option()
def command(output: str) -> None:
    """Print the version."""
    if output == "table":
        click.echo(f"rollforward {version('rollforward')}")
    else:
        print_document({"version": version("rollforward")}, output)
