"""The broken versions of the protocol, and those that are none."""

from tests.chaos.sim.broken.claims import CLAIMS
from tests.chaos.sim.broken.queue import QUEUE
from tests.chaos.sim.broken.record import RECORD
from tests.chaos.sim.broken.version import Broken

BROKEN: dict[str, Broken] = {**CLAIMS, **QUEUE, **RECORD}

EQUIVALENT = {
    "the last report of a slot wins": "no second report of a slot comes to the store: an owner does not record again "
    "what it has committed, `open` closes what is recorded, and who is fenced commits nothing",
    "a beat takes back a lease that has ended": "it is no broken version: nobody took it, so that its holder is still "
    "the only one; the token says so, not the time",
}

__all__ = ["BROKEN", "EQUIVALENT", "Broken"]
