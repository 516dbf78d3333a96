"""`rollforward doctor`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click
from rich.markup import escape
from rich.table import Table

from orchestrator.errors import CallerError, OperatorError
from rollforward.cli.examination.celery_setting import content, graph_list, visibility_timeout
from rollforward.cli.examination.database import checkpoint_store
from rollforward.cli.examination.finding import Check, Finding, Severity, refused_by
from rollforward.cli.examination.fleet import workers
from rollforward.cli.examination.keyspace import keyspaces
from rollforward.cli.examination.network import access, encryption
from rollforward.cli.examination.redis_server import redis_servers
from rollforward.cli.examination.version import versions
from rollforward.cli.failure import FAILED
from rollforward.cli.output import console, print_document, print_rows
from rollforward.cli.setting import read_settings
from rollforward.cli.verb import Verb, output_option
from workers.settings import Settings

CHECKS: Sequence[Check] = (
    versions,
    encryption,
    access,
    redis_servers,
    checkpoint_store,
    graph_list,
    content,
    visibility_timeout,
    keyspaces,
    workers,
)
_COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.REFUSED: "red"}


@click.command(cls=Verb)
@output_option()
@click.pass_context
def command(context: click.Context, output: str) -> None:
    """Check the deployment: versions, Redis, database, clocks, workers; exit code 1 where something is refused."""
    findings = list(examine(read_settings()))
    is_well = all(finding.severity is not Severity.REFUSED for finding in findings)
    if output == "table":
        _draw(findings)
    elif output == "json":
        print_document({"ok": is_well, "findings": [asdict(finding) for finding in findings]}, output)
    else:
        print_rows([asdict(finding) for finding in findings], output, columns=())
    if not is_well:
        context.exit(FAILED)


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding; a check that cannot reach what it looks at refuses."""
    for check in CHECKS:
        try:
            yield from check(settings)
        except (OperatorError, CallerError) as error:
            yield refused_by(check.__name__, error)


def _draw(findings: Sequence[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("check", "subject", "severity"):
        table.add_column(name)
    table.add_column("found and way out", overflow="fold")
    for finding in findings:
        colour = _COLOURS[finding.severity]
        told = finding.found if finding.way_out is None else f"{finding.found}; {finding.way_out}"
        table.add_row(finding.check, finding.subject, f"[{colour}]{finding.severity}[/]", escape(told))
    console().print(table)
