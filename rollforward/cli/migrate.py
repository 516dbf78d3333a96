"""`rollforward migrate`."""

import click

from backends.checkpointers.sql.migration import SchemaState, migrate
from rollforward.cli.setting import hide_password, read_settings
from rollforward.cli.verb import Verb

_SQL = ("sqlite", "postgresql")


@click.command(cls=Verb)
def command() -> None:
    """Bring the database to this version's schema; what is up to date is left alone."""
    settings = read_settings()
    shown = hide_password(settings.checkpoint_url)
    if not settings.checkpoint_url.startswith(_SQL):
        click.echo(f"{shown} has no schema to migrate", err=True)
        return
    before = migrate(settings.checkpoint_url, settings.namespace)
    was = "had this version's schema already" if before is SchemaState.OK else "has this version's schema now"
    click.echo(f"{shown} {was}", err=True)
