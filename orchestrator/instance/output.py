"""What an instance puts out, told as events of its own."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.capture.capture import Capture, CaptureOptions
from orchestrator.capture.streams import capturing
from orchestrator.error_record import ErrorRecord
from orchestrator.instance.kept import Kept
from orchestrator.ledger.claim import Claimed
from orchestrator.observers.event import InstanceLogEvent, Phase

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """How the output of instances is taken; `is_alone` where each has its process to itself."""

    capture: CaptureOptions = field(default_factory=CaptureOptions)
    is_alone: bool = False


@dataclass(slots=True)
class Output:
    """The output of one delivery, as far as it was told."""

    capture: Capture
    frame: "Frame"
    work: Claimed
    worker: str
    source: str = ""
    told: int = 0

    def tell(self, *, is_over: bool = False) -> None:
        """Tell of the lines that have come since the last time."""
        lines = self.capture.take(is_over=is_over)
        if not lines:
            return
        self.source = self.source or secrets.token_hex(8)
        levels = self.frame.levels
        event = InstanceLogEvent(
            run_id=self.frame.run_id,
            invocation_id=self.frame.invocation_id,
            correlation_id=self.frame.correlation_id,
            namespace=tuple(level.node for level in levels),
            fan_out_index_chain=tuple(level.index for level in levels),
            branch_name_chain=tuple(level.branch for level in levels),
            key=self.work.key,
            delivery=self.work.delivery,
            worker=self.worker,
            source=self.source,
            first_number=self.told + 1,
            lines=lines,
        )
        self.told += len(lines)
        self.frame.emitter.emit(event, self.frame.namespace)

    def failed(self, error: ErrorRecord | None) -> None:
        """Take the traceback of what the instance came to."""
        if error is not None and error.traceback:
            self.capture.fail(error.traceback)


@contextmanager
def output_told(
    frame: "Frame", work: Claimed, options: OutputOptions, *, worker: str, kept: Kept | None
) -> Iterator[Callable[[ErrorRecord | None], None]]:
    """Tell what is put out in here, where anybody wants to know; what is given takes the error it ends with.

    All of it is told at the end, and by then some of it was, where `kept` tells what happens while it runs.
    """
    if not frame.emitter.wants(Phase.LOGGED):
        yield _nothing
        return
    output = Output(Capture(options.capture), frame, work, worker)
    with nullcontext() if kept is None else kept.asking(output.tell):
        with capturing(output.capture, is_alone=options.is_alone):
            yield output.failed
        output.tell(is_over=True)


def _nothing(_error: ErrorRecord | None) -> None:
    return None
