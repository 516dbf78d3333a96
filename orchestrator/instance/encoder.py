"""Makes texts of an instance's events, whatever they hold."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.ledger.claim import Claimed
from orchestrator.observers.emitter import Path
from orchestrator.observers.event import Event
from orchestrator.wire.event import encode

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Encoder:
    """Encodes the events of one delivery, each by itself: one that cannot be told changes nothing but the log."""

    work: Claimed
    has_complained: bool = False

    def texts(self, events: Iterable[tuple[Event, Path]]) -> tuple[str, ...]:
        """Those that can travel, as they travel."""
        return tuple(text for event, path in events if (text := self._text(event, path)) is not None)

    def _text(self, event: Event, path: Path) -> str | None:
        try:
            return encode(event, path)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - what an event holds is the user's, and so are its panics
            self._complain(event, error)
            return None

    def _complain(self, event: Event, error: BaseException) -> None:
        # The error's own words may hold what the event holds.
        if not self.has_complained:
            self.has_complained = True
            facts = {"run_id": self.work.run_id, "index": self.work.slot.index, "node": "/".join(event.namespace)}
            log.warning("event left out", extra={**facts, "error": type(error).__name__})
