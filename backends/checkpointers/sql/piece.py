"""Reading many rows piece by piece, in the order of index and generation."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from orchestrator.checkpoint.row import SlotRow

PIECE_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """At most `limit` rows that follow `after` (index and generation), with an index below `stop`."""

    after: tuple[int, int] = (0, -1)
    stop: int | None = None
    limit: int = PIECE_ROWS


@dataclass(frozen=True, slots=True)
class Read:
    """What a piece held, and the piece after it; None where there is none."""

    rows: list[SlotRow]
    following: Piece | None


def latest(read: Callable[[Piece], Read]) -> list[SlotRow]:
    """Of each slot the row of the latest generation, from all pieces."""
    rows: dict[int, SlotRow] = {}
    piece: Piece | None = Piece()
    while piece is not None:
        got = read(piece)
        rows.update((row.report.slot.index, row) for row in got.rows)
        piece = got.following
    return list(rows.values())


async def latest_in_pieces(read: Callable[[Piece], Awaitable[Read]], first: Piece) -> AsyncIterator[SlotRow]:
    """The same one by one, without holding more than a piece."""
    piece: Piece | None = first
    held: SlotRow | None = None
    while piece is not None:
        got = await read(piece)
        for row in got.rows:
            # The next piece may begin with a later generation of the slot that this one ends with.
            if held is not None and held.report.slot.index != row.report.slot.index:
                yield held
            held = row
        piece = got.following
    if held is not None:
        yield held
