"""Sees every act on the ledger and the store as it takes effect, and says which invariant it breaks."""

from typing import TYPE_CHECKING, Any

from orchestrator.identity import Slot
from tests.chaos.sim.granted import Granted
from tests.chaos.sim.history import Event, History
from tests.chaos.sim.seen_ledger import SeenLedger
from tests.chaos.sim.seen_store import SeenStore

if TYPE_CHECKING:
    from tests.chaos.sim.world import World


class Witness:
    """Judges acts one by one; what can only be judged at the end is in `verdict`.

    `tokens` and `accepted` are those that a claim, and a report, was ever granted and taken under; `brought` the
    durable nodes that a claim brought with it.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.history = History()
        self.granted = Granted()
        self.tokens: set[str] = set()
        self.accepted: set[tuple[Slot, str, str]] = set()
        self.brought: dict[str, frozenset[str]] = {}
        self.claims: dict[Slot, int] = {}
        self.recorded: dict[Slot, tuple[str, str]] = {}
        self.errors: set[Slot] = set()
        self.queued: set[Slot] = set()
        self.executions = 0
        self.over: str | None = None
        self.is_forgotten = False
        self._seen_ledger = SeenLedger(self)
        self._seen_store = SeenStore(self)

    def note(self, actor: str, what: str, subject: object, facts: object = "") -> None:
        self.history.events.append(Event(self.world.now(), actor, what, name_of(subject), str(facts)))

    def blame(self, invariant: str, subject: object, told: str) -> None:
        self.history.blame(invariant, name_of(subject), told)

    def ledger(self, actor: str, verb: str, args: tuple[Any, ...], named: dict[str, Any], answer: Any) -> None:
        """Judge what the ledger has answered."""
        self._seen_ledger.verb(actor, verb, args, named, answer)

    def store(self, actor: str, verb: str, args: tuple[Any, ...], answer: Any) -> None:
        """Judge a call of the store that took effect."""
        self._seen_store.verb(actor, verb, args, answer)


def name_of(subject: object) -> str:
    if isinstance(subject, Slot):
        return f"{subject.fan_out}[{subject.index}]" + (f"g{subject.generation}" if subject.generation else "")
    return str(subject)
