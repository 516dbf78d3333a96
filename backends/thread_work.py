"""Waiting for what a thread does."""

import asyncio
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: asyncio.Future[T]) -> T:
    """What the work gives, also to whoever is cancelled meanwhile: a thread cannot be called back."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({work})
    return work.result()
