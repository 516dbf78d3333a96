"""Errors as users of the command line meet them: one sentence and an exit code."""

import os
import sys
import traceback
from typing import Self

import click

from orchestrator.errors import CallerError, OperatorError, RollforwardError, RunCancelled
from orchestrator.log_line import on_one_line
from orchestrator.redaction import redacted

SUCCEEDED = 0
FAILED = 1
USAGE = 2
CANCELLED = 4
UNAVAILABLE = 69
INTERRUPTED = 130
BROKEN_PIPE = 141

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (CallerError, USAGE),
    (OperatorError, UNAVAILABLE),
    (RunCancelled, CANCELLED),
    (KeyboardInterrupt, INTERRUPTED),
    (click.Abort, INTERRUPTED),
)


def exit_code_of(error: BaseException) -> int:
    """The exit code that an error ends the command with."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def sentence_of(error: BaseException) -> str:
    """What is wrong and what to do, on one line."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        sentence = error.format_message().removesuffix(".")
        return _one_line(f"{sentence}. `{error.ctx.command_path} --help` says what there is.")
    if isinstance(error, click.ClickException):
        return _one_line(error.format_message())
    if isinstance(error, RollforwardError):
        return _one_line(str(error))
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted"
    return _one_line(f"unexpected {type(error).__name__}: {error}; run it with -v and report what it shows")


class Ending:
    """How the command ended: turns whatever leaves its block into a sentence on stderr and an exit code."""

    def __init__(self) -> None:
        self.exit_code = SUCCEEDED
        self.is_verbose = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if isinstance(error, click.exceptions.Exit):
            self.exit_code = error.exit_code
        elif isinstance(error, SystemExit | GeneratorExit):
            return False
        elif isinstance(error, BrokenPipeError):
            self.exit_code = BROKEN_PIPE
            _forget_stdout()
        elif error is not None:
            self.exit_code = exit_code_of(error)
            tell(error, is_verbose=self.is_verbose)
        return True


def tell(error: BaseException, *, is_verbose: bool, advice: str | None = None) -> None:
    """Write the sentence to stderr, after the traceback where it is wanted; `advice` stands at its end."""
    if is_verbose and not isinstance(error, click.ClickException):
        click.echo(redacted("".join(traceback.format_exception(error))), err=True, nl=False)
    end = "" if advice is None else f"; {advice}"
    click.echo(f"rollforward: {sentence_of(error)}{end}", err=True)


def _forget_stdout() -> None:
    # Whoever read the output has left; without this the interpreter complains when it flushes at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(text: str) -> str:
    return on_one_line(" ".join(redacted(text).split()))
