"""Sees every act on the ledger and the store as it takes effect, and says which invariant it breaks."""

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, ClaimAnswer, Held, Reported, Verdict
from orchestrator.ledger.view import QueueAnswer
from orchestrator.report import Outcome
from tests.chaos.sim.history import Event, History

if TYPE_CHECKING:
    from orchestrator.checkpoint.row import Ownership
    from tests.chaos.sim.world import World

MAX_DELIVERIES = 3
OWNERS_VERBS = frozenset({"open", "queue", "close", "reset", "sweep", "cancel", "forget"})
WRITES = frozenset({"save_step", "open_fan_out", "record", "record_inner", "record_losses", "finish", "renew"})


@dataclass(slots=True)
class Grant:
    """The claim in force on a slot."""

    token: str
    owner: str
    delivery: int
    until: float
    is_released: bool = False


@dataclass(slots=True)
class Granted:
    """What the ledger must know of claims; it is lost and rolled back together with the ledger."""

    latest: dict[Slot, Grant] = field(default_factory=dict)
    deliveries: dict[Slot, int] = field(default_factory=dict)
    epoch: int = 0

    def copy(self) -> "Granted":
        return Granted({slot: copy(grant) for slot, grant in self.latest.items()}, dict(self.deliveries), self.epoch)


class Witness:
    """Judges acts one by one; what can only be judged at the end is in `verdict`."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.history = History()
        self.granted = Granted()
        self.tokens: set[str] = set()
        self.claims: dict[Slot, int] = {}
        self.recorded: dict[tuple[str, int, int], tuple[str, str]] = {}
        self.errors: set[Slot] = set()
        self.queued: set[Slot] = set()
        self.executions = 0
        self._epoch = 0
        self._over: str | None = None

    def note(self, actor: str, what: str, subject: object, facts: object = "") -> None:
        self.history.events.append(Event(self._world.now(), actor, what, name_of(subject), str(facts)))

    def ledger(self, actor: str, verb: str, args: tuple[Any, ...], named: dict[str, Any], answer: Any) -> None:
        if verb in OWNERS_VERBS:
            self._check_owner(verb, args[0], args[1])
        judge = getattr(self, f"_on_{verb}", None)
        if judge is not None:
            judge(actor, args, named, answer)

    def _on_claim(self, actor: str, args: Any, named: Any, answers: list[ClaimAnswer]) -> None:
        for slot, answer in zip(args[1], answers, strict=True):
            self.note(actor, "claim", slot, f"{answer.verdict.value} {named['token']}")
            if answer.verdict is Verdict.OK and answer.claimed is not None:
                delivery = answer.claimed.delivery
                self._grant(slot, Grant(named["token"], named["owner"], delivery, self._until(named)))

    def _grant(self, slot: Slot, grant: Grant) -> None:
        before = self.granted.latest.get(slot)
        self.tokens.add(grant.token)
        if before is not None and before.token == grant.token and before.owner == grant.owner:
            before.until = max(before.until, grant.until)
            return
        if before is not None and before.token == grant.token:
            self._blame("a token is granted once", slot, f"{grant.token} to {before.owner} and {grant.owner}")
        if before is not None and not before.is_released and before.until > self._world.now():
            self._blame("at most one valid token a slot", slot, f"{grant.owner} beside {before.owner}")
        if grant.delivery <= self.granted.deliveries.get(slot, 0):
            self._blame("delivery counters never go down", slot, f"{grant.delivery} again")
        self.granted.deliveries[slot] = grant.delivery
        self.granted.latest[slot] = grant
        self.claims[slot] = self.claims.get(slot, 0) + 1

    def _on_beat(self, actor: str, args: Any, named: Any, answers: list[Beat]) -> None:
        for held, answer in zip(args[1], answers, strict=True):
            self.note(actor, "beat", held.slot, answer.value)
            if answer is not Beat.LOST and self._is_in_force(held, "a beat"):
                self.granted.latest[held.slot].until = self._until(named)

    def _on_progress(self, _actor: str, args: Any, _named: Any, answer: bool) -> None:
        if answer:
            self._is_in_force(args[1], "progress")

    def _on_report(self, actor: str, args: Any, _named: Any, answers: list[Reported]) -> None:
        for report, answer in zip(args[1], answers, strict=True):
            self.note(actor, "report", report.slot, f"{answer.value} {report.outcome.value} {report.token}")
            if answer is Reported.OK and self._is_in_force(Held(report.slot, report.token), "a report"):
                self.granted.latest[report.slot].is_released = True

    def _is_in_force(self, held: Held, what: str) -> bool:
        grant = self.granted.latest.get(held.slot)
        if grant is None or grant.token != held.token:
            self._blame("a superseded token is refused", held.slot, f"{what} under {held.token} was accepted")
            return False
        return True

    def _on_release(self, actor: str, args: Any, _named: Any, answer: int) -> None:
        self.note(actor, "release", args[0], answer)
        for grant in self.granted.latest.values():
            if grant.owner == args[0]:
                grant.is_released = True

    def _on_queue(self, actor: str, args: Any, _named: Any, answers: list[QueueAnswer]) -> None:
        for item, answer in zip(args[2], answers, strict=True):
            self.note(actor, "queue", item.slot, answer.value)
            self.queued.add(item.slot)
            grant = self.granted.latest.get(item.slot)
            is_live = grant is not None and not grant.is_released and grant.until > self._world.now()
            if answer is QueueAnswer.OK and is_live:
                self._blame("at most one valid token a slot", item.slot, "queued under a live lease")

    def _on_open(self, actor: str, args: Any, _named: Any, _answer: None) -> None:
        self.note(actor, "open", args[2].fan_out, f"epoch {args[1]} recorded {len(args[2].recorded)}")
        self.granted.epoch = args[1]

    def _check_owner(self, verb: str, run_id: str, epoch: int) -> None:
        if epoch < self.granted.epoch:
            self._blame("a fenced owner is refused", run_id, f"{verb} under {epoch}, after {self.granted.epoch}")

    def _on_close(self, actor: str, args: Any, _named: Any, _answer: None) -> None:
        for slot in args[2]:
            self.note(actor, "close", slot)
            if (slot.fan_out, slot.index, slot.generation) not in self.recorded and slot not in self.errors:
                self._blame("recorded before it is closed", slot, "closed, and not in the record")
            self._drop(slot)

    def _on_reset(self, actor: str, args: Any, _named: Any, _answer: None) -> None:
        for slot in args[2]:
            self.note(actor, "reset", slot)
            self.granted.latest.pop(slot, None)

    def _on_forget(self, actor: str, args: Any, named: Any, _answer: None) -> None:
        fan_out = named.get("fan_out")
        self.note(actor, "forget", fan_out or args[0])
        for slot in [slot for slot in self.granted.latest if fan_out in (None, slot.fan_out)]:
            self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        self.granted.latest.pop(slot, None)
        self.granted.deliveries.pop(slot, None)

    def store(self, actor: str, verb: str, args: tuple[Any, ...], answer: Any) -> None:
        """Judge a write that took effect."""
        if verb == "acquire":
            self.note(actor, "acquire", args[0], f"epoch {answer.epoch}")
            if answer.epoch <= self._epoch:
                self._blame("epochs rise", args[0], f"{answer.epoch} after {self._epoch}")
            self._epoch = answer.epoch
        if verb in WRITES:
            own: Ownership = args[0]
            self._check_epoch(own.run_id, own.epoch)
            if verb == "finish":
                self.note(actor, "finish", own.run_id, f"epoch {own.epoch} {args[1].value}")
        self._look_at_status()
        self._look_at_record(actor)

    def _check_epoch(self, run_id: str, epoch: int) -> None:
        if epoch < self._world.kept(run_id).run.epoch:
            self._blame("only the owner writes", run_id, f"epoch {epoch} wrote")

    def _look_at_status(self) -> None:
        run = self._world.kept(self._world.run_id).run
        if self._over is not None and run.status.value != self._over:
            self._blame("the outcome is written once", run.run_id, f"{self._over}, then {run.status.value}")
        if run.status.is_over:
            self._over = run.status.value

    def _look_at_record(self, actor: str) -> None:
        kept = self._world.kept(self._world.run_id)
        seen = 0
        for fan_out, rows in kept.slots._rows.items():
            for index, generations in rows.items():
                for generation, row in generations.items():
                    seen += 1
                    self._look_at_row(actor, (fan_out, index, generation), row.report)
        if seen < len(self.recorded):
            self._blame("recorded slots never change", self._world.run_id, "a recorded slot is gone")
        for fan_out in kept.errors._rows:
            self.errors.update(row.report.slot for row in kept.errors.latest(fan_out))

    def _look_at_row(self, actor: str, place: tuple[str, int, int], report: Any) -> None:
        told, slot = (report.token, report.hash), Slot(*place)
        before = self.recorded.setdefault(place, told)
        if before is told:
            self.note(actor, "record", slot, f"{report.outcome.value} {report.token}")
            self._judge_first(slot, report)
        elif before != told:
            self._blame("recorded slots never change", slot, f"{before}, then {told}")
            self.recorded[place] = told

    def _judge_first(self, slot: Slot, report: Any) -> None:
        if self._over is not None and self._over != "succeeded":
            self._blame("nothing comes after the outcome", slot, "recorded")
        if report.outcome is Outcome.LOST:
            if self.claims.get(slot, 0) < MAX_DELIVERIES:
                self._blame("given up after max_deliveries", slot, f"{self.claims.get(slot, 0)} claims")
        elif report.token not in self.tokens:
            self._blame("the recorded token was granted", slot, report.token)

    def _until(self, named: dict[str, Any]) -> float:
        return self._world.now() + float(named["ttl_seconds"])

    def _blame(self, invariant: str, subject: object, told: str) -> None:
        self.history.blame(invariant, name_of(subject), told)


def name_of(subject: object) -> str:
    if isinstance(subject, Slot):
        return f"{subject.fan_out}[{subject.index}]" + (f"g{subject.generation}" if subject.generation else "")
    return str(subject)
