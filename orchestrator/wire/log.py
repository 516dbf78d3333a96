"""How the output of instances travels."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import Any

from orchestrator.capture.line import NOBODY, LogLine, LogStream
from orchestrator.capture.text import plain
from orchestrator.observers.event import InstanceLogEvent
from orchestrator.reading import sound
from orchestrator.wire.origin import Origin

_PLAIN = ("key", "delivery", "worker", "source", "first_number")


def log_fields(event: InstanceLogEvent) -> dict[str, Any]:
    """The own fields of an event, as JSON."""
    return {
        **{name: getattr(event, name) for name in _PLAIN},
        "lines": [_line_fields(line) for line in event.lines],
        "writers": [[len(list(lines)), *writer] for writer, lines in groupby(event.lines, attrgetter("writer"))],
    }


def log_event(told: Mapping[str, Any], place: Mapping[str, Any], _origin: Origin) -> InstanceLogEvent:
    """The event from its own fields and its place again."""
    # A worker of an earlier version does not say who wrote its lines.
    known = chain.from_iterable(repeat(writer, count) for count, *writer in told.get("writers", ()))
    lines = tuple(map(_line, told["lines"], chain(known, repeat(NOBODY))))
    event = InstanceLogEvent(**place, **{name: told[name] for name in _PLAIN}, lines=lines)
    is_placed = len(event.namespace) == len(event.fan_out_index_chain) == len(event.branch_name_chain)
    if not is_placed or event.fan_out_index_chain[-1:] in ((), (None,)):
        raise ValueError("its place")
    return sound(event)


def _line_fields(line: LogLine) -> list[Any]:
    rare = [line.level, line.logger, line.is_cut] if line.level or line.logger or line.is_cut else []
    return [line.stream, line.at.timestamp(), line.text, *rare]


def _line(fields: list[Any], writer: Sequence[Any]) -> LogLine:
    stream, at, text, *rare = fields
    inner_node, attempt = writer
    level, logger, is_cut = rare or (None, None, False)
    return LogLine(
        stream=LogStream(stream),
        at=datetime.fromtimestamp(at, UTC),
        text=plain(text),
        level=level,
        logger=logger,
        is_cut=is_cut,
        inner_node=None if inner_node is None else plain(inner_node),
        attempt=attempt,
    )
