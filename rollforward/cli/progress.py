"""How a run's progress is shown, on stderr."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import click
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from orchestrator.execution.status import Progress
from rollforward.cli.output import console, to_json

STYLES = ("auto", "bar", "plain", "json", "none")
LINE_EVERY_SECONDS = 10.0
_RATE_OVER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is, over all fan-outs entered so far; `eta_s` is None where it cannot be told.

    `in_flight` are dispatched and not recorded: queued, running, or reported.
    """

    done: int
    total: int
    in_flight: int
    failed: int
    rate_per_s: float
    health: str | None

    @property
    def percent(self) -> float:
        return 100.0 * self.done / self.total if self.total else 0.0

    @property
    def eta_s(self) -> float | None:
        return round((self.total - self.done) / self.rate_per_s, 1) if self.rate_per_s > 0 else None

    def to_json(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "total": self.total,
            "percent": round(self.percent, 1),
            "in_flight": self.in_flight,
            "running": self.in_flight,
            "failed": self.failed,
            "rate_per_s": round(self.rate_per_s, 1),
            "eta_s": self.eta_s,
            "health": self.health,
        }

    def __str__(self) -> str:
        eta = "" if self.eta_s is None or self.done == self.total else f", {self.eta_s:.0f} s to go"
        health = f"; {self.health}" if self.health else ""
        return (
            f"{self.done}/{self.total} ({self.percent:.0f} %), {self.in_flight} in flight, {self.failed} failed, "
            f"{self.rate_per_s:.1f}/s{eta}{health}"
        )


class RateMeter:
    """How many instances a second, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, done: int) -> float:
        """Take a count, and give the rate up to it; what was done before the first call does not count."""
        now = time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[0][0] < now - _RATE_OVER_SECONDS:
            self._seen.popleft()
        first_at, first = self._seen[0]
        return (done - first) / (now - first_at) if now > first_at else 0.0


class Display(Protocol):
    """Shows snapshots; called several times a second."""

    def update(self, snapshot: Snapshot) -> None:
        """Show how far the run is now."""


@contextmanager
def display(style: str, run_id: str) -> Iterator[Display]:
    """A display of that style; `auto` is a bar on a terminal and plain lines elsewhere."""
    if style == "auto":
        style = "bar" if sys.stderr.isatty() else "plain"
    if style == "bar":
        with _Bar(run_id) as bar:
            yield bar
        return
    lines = _Lines(run_id, as_json=style == "json", is_quiet=style == "none")
    yield lines
    lines.finish()


class Watch:
    """Turns what a run's owner says into snapshots on a display.

    Where a run is resumed, what a fan-out has when it is first seen was recorded earlier, and is no part of the rate.
    """

    def __init__(self, shown_on: Display, *, is_resumed: bool = False) -> None:
        self._display = shown_on
        self._meter = RateMeter()
        self._is_resumed = is_resumed
        self._earlier: list[int] = []

    def update(self, progress: Progress) -> None:
        """Take the owner's word."""
        counts = progress.fan_outs
        done = sum(count.recorded for count in counts)
        if self._is_resumed:
            # Fan-outs come in the order they are entered in, so those not seen before stand at the end.
            self._earlier.extend(count.recorded for count in counts[len(self._earlier) :])
        self._display.update(
            Snapshot(
                done=done,
                total=sum(count.expected for count in counts),
                in_flight=sum(count.outstanding for count in counts),
                failed=sum(count.failed for count in counts),
                rate_per_s=self._meter.rate(done - sum(self._earlier)),
                health=progress.health,
            )
        )


class _Lines:
    def __init__(self, run_id: str, *, as_json: bool, is_quiet: bool) -> None:
        self._run_id = run_id
        self._as_json = as_json
        self._is_quiet = is_quiet
        self._last: Snapshot | None = None
        self._written: Snapshot | None = None
        self._next_at = 0.0

    def update(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        if snapshot.total and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + LINE_EVERY_SECONDS
            self._write(snapshot)

    def finish(self) -> None:
        if self._last is not None and self._last.total and self._last is not self._written:
            self._write(self._last)

    def _write(self, snapshot: Snapshot) -> None:
        self._written = snapshot
        if self._is_quiet:
            return
        text = (
            to_json({"run_id": self._run_id, **snapshot.to_json()}) if self._as_json else f"{self._run_id}: {snapshot}"
        )
        click.echo(text, err=True)


class _Bar:
    def __init__(self, run_id: str) -> None:
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=console(stderr=True),
        )
        self._task: TaskID = self._rich.add_task(run_id, total=None, told="starting")

    def __enter__(self) -> "_Bar":
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def update(self, snapshot: Snapshot) -> None:
        eta = "" if snapshot.eta_s is None else f", {snapshot.eta_s:.0f} s to go"
        told = f"{snapshot.in_flight} in flight, {snapshot.failed} failed, {snapshot.rate_per_s:.1f}/s{eta}"
        if snapshot.health:
            told = f"{told} [red]{snapshot.health}[/red]"
        self._rich.update(self._task, completed=snapshot.done, total=snapshot.total or None, told=told)
