"""What every verb of the command line has in common."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)
OUTPUTS = click.Choice(["table", "json", "jsonl"])


class Verb(click.Command):
    """A command with `-v`, which may stand before or after its name."""

    def __init__(self, *arguments: Any, **facts: Any) -> None:
        super().__init__(*arguments, **facts)
        self.params.append(verbose_option())


def verbose_option() -> click.Option:
    """`-v`: tracebacks with errors."""
    return click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=_set_verbose,
        help="Show tracebacks with errors.",
    )


def is_verbose(context: click.Context | None) -> bool:
    """Whether `-v` was given anywhere."""
    return context is not None and bool(context.find_root().meta.get("rollforward.verbose"))


def output_option(default: str = "table") -> Callable[[Decorated], Decorated]:
    """`-o`: how data is printed on stdout."""
    return click.option(
        "-o", "--output", type=OUTPUTS, default=default, show_default=True, help="How data is printed on stdout."
    )


def _set_verbose(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().meta["rollforward.verbose"] = True
