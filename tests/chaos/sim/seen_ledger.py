"""What the ledger answers, held against what it has granted before."""

from typing import TYPE_CHECKING, Any

from orchestrator.fan_out.entry import NodeCompleted, read_entries
from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, ClaimAnswer, Claimed, Held, Reported, Verdict
from orchestrator.ledger.view import QueueAnswer, QueuedItem
from tests.chaos.sim.granted import Grant, Granted

if TYPE_CHECKING:
    from tests.chaos.sim.witness import Witness

OWNERS_VERBS = frozenset({"open", "queue", "close", "reset", "sweep", "cancel", "forget"})

AT_ANY_TIME = frozenset({"open", "forget"})


def durable_nodes(entries: Any) -> frozenset[str]:
    """The nodes that these entries keep as completed."""
    return frozenset(entry.step.node for entry in read_entries(entries) if isinstance(entry, NodeCompleted))


class SeenLedger:
    """Judges the verbs of workers and of owners, one by one."""

    def __init__(self, witness: "Witness") -> None:
        self._witness = witness
        self._world = witness.world
        self._note = witness.note
        self._blame = witness.blame

    @property
    def _granted(self) -> Granted:
        return self._witness.granted

    def verb(self, actor: str, verb: str, args: tuple[Any, ...], named: dict[str, Any], answer: Any) -> None:
        if verb in OWNERS_VERBS and args[1] < self._granted.epoch:
            self._blame("a fenced owner is refused", args[0], f"{verb} under {args[1]}, after {self._granted.epoch}")
        if verb in OWNERS_VERBS - AT_ANY_TIME and args[1] > self._granted.epoch:
            self._blame("an owner opens before it acts", args[0], f"{verb} under {args[1]}, not {self._granted.epoch}")
        judge = getattr(self, f"_on_{verb}", None)
        if judge is not None:
            judge(actor, args, named, answer)

    def _on_claim(self, actor: str, args: Any, named: Any, answers: list[ClaimAnswer]) -> None:
        for slot, answer in zip(args[1], answers, strict=True):
            self._note(actor, "claim", slot, f"{answer.verdict.value} {named['token']}")
            before = self._granted.latest.get(slot)
            is_again = before is not None and (before.token, before.owner) == (named["token"], named["owner"])
            if answer.claimed is not None and is_again:
                self._check_again(slot, answer.claimed.delivery)
            elif answer.claimed is not None:
                grant = Grant(named["token"], named["owner"], answer.claimed.delivery, self._until(named))
                self._grant(args[0], answer.claimed, grant)
            else:
                self._check_refusal(slot, answer.verdict, is_again=is_again)

    def _check_refusal(self, slot: Slot, verdict: Verdict, *, is_again: bool) -> None:
        if is_again and verdict is not Verdict.DONE:
            self._blame("the same call is answered the same", slot, f"claimed, then {verdict.value}")
        if slot in self._granted.up and verdict is not Verdict.CANCELLED:
            self._blame("what is queued can be claimed", slot, verdict.value)

    def _check_again(self, slot: Slot, delivery: int) -> None:
        if delivery != self._granted.latest[slot].delivery:
            self._blame("the same call is answered the same", slot, f"delivery {delivery}")

    def _grant(self, run_id: str, claimed: Claimed, grant: Grant) -> None:
        slot, granted, witness = claimed.slot, self._granted, self._witness
        before = granted.latest.get(slot)
        if grant.token in witness.tokens:
            self._blame("a token is granted once", slot, f"{grant.token} to {grant.owner}")
        witness.tokens.add(grant.token)
        if before is not None and before.is_live(self._now()):
            self._blame("at most one valid token a slot", slot, f"{grant.owner} beside {before.owner}")
        if grant.delivery != granted.deliveries.get(slot, 0) + 1:
            told = f"{grant.delivery} after {granted.deliveries.get(slot, 0)}"
            self._blame("delivery counters never go down", slot, told)
        if granted.is_cancelled(run_id, slot):
            self._blame("nothing begins after a cancel", slot, f"{grant.owner} begins")
        brought = witness.brought[grant.token] = durable_nodes(claimed.progress)
        if not granted.kept.get(slot, frozenset()) <= brought:
            self._blame("progress is kept for the next claim", slot, f"{granted.kept[slot]}, not {brought}")
        granted.deliveries[slot] = grant.delivery
        granted.latest[slot] = grant
        granted.up.discard(slot)
        witness.claims[slot] = witness.claims.get(slot, 0) + 1
        self._check_window(slot.fan_out)

    def _check_window(self, fan_out: str) -> None:
        limit, now = self._world.scenario.concurrency, self._now()
        alive = [slot for slot, grant in self._granted.latest.items() if grant.is_live(now) and slot.fan_out == fan_out]
        # A ledger that was rolled back has leases of slots that are recorded meanwhile.
        live = sum(slot not in self._witness.recorded for slot in alive)
        if limit is not None and self._world.is_outer(fan_out) and live > limit:
            self._blame("no more run at once than the fan-out allows", fan_out, f"{live} of {limit}")

    def _on_beat(self, actor: str, args: Any, named: Any, answers: list[Beat]) -> None:
        for held, answer in zip(args[1], answers, strict=True):
            self._note(actor, "beat", held.slot, answer.value)
            grant = self._granted.latest.get(held.slot)
            if answer is Beat.LOST:
                if grant is not None and grant.token == held.token and not grant.is_reported:
                    self._blame("expiry alone takes no lease", held.slot, f"{held.token} is lost")
            elif answer is Beat.CANCEL and self._witness.is_forgotten:
                continue
            elif self._is_in_force(held, "a beat"):
                self._extend(held.slot, self._until(named))

    def _extend(self, slot: Slot, until: float) -> None:
        # What was released is for others to take, also while its old holder still works on it.
        if not self._granted.latest[slot].is_released:
            self._granted.latest[slot].until = until
            self._granted.up.discard(slot)

    def _on_progress(self, _actor: str, args: Any, _named: Any, answer: bool) -> None:
        held: Held = args[1]
        if answer and self._is_in_force(held, "progress"):
            kept = self._granted.kept.get(held.slot, frozenset())
            self._granted.kept[held.slot] = kept | durable_nodes(args[2])

    def _on_report(self, actor: str, args: Any, _named: Any, answers: list[Reported]) -> None:
        for report, answer in zip(args[1], answers, strict=True):
            self._note(actor, "report", report.slot, f"{answer.value} {report.outcome.value} {report.token}")
            grant = self._granted.latest.get(report.slot)
            if answer is Reported.OK and self._is_in_force(Held(report.slot, report.token), "a report"):
                self._granted.latest[report.slot].is_reported = True
                self._granted.up.discard(report.slot)
                self._witness.accepted.add((report.slot, report.token, report.hash))
            elif answer is Reported.STALE and grant is not None and grant.token == report.token:
                self._blame("a late finisher is accepted", report.slot, f"{report.token} is stale")

    def _is_in_force(self, held: Held, what: str) -> bool:
        grant = self._granted.latest.get(held.slot)
        if grant is None or grant.token != held.token:
            self._blame("a superseded token is refused", held.slot, f"{what} under {held.token} was accepted")
            return False
        return True

    def _on_release(self, actor: str, args: Any, _named: Any, answer: int) -> None:
        self._note(actor, "release", args[0], answer)
        for slot, grant in self._granted.latest.items():
            # A lease that had ended, and whose slot is up again, is no lease any more.
            if grant.owner == args[0] and slot not in self._granted.up:
                grant.is_released = True

    def _on_decline(self, actor: str, args: Any, _named: Any, _answer: None) -> None:
        for slot in args[1]:
            self._note(actor, "decline", slot)

    def _on_queue(self, actor: str, args: Any, _named: Any, answers: list[QueueAnswer]) -> None:
        for item, answer in zip(args[2], answers, strict=True):
            self._note(actor, "queue", item.slot, answer.value)
            self._witness.queued.add(item.slot)
            grant = self._granted.latest.get(item.slot)
            is_live = grant is not None and grant.is_live(self._now())
            if answer is QueueAnswer.OK:
                self._check_item(item)
                self._granted.up.add(item.slot)
                counted = self._granted.deliveries.get(item.slot, 0)
                self._granted.deliveries[item.slot] = max(counted, item.deliveries)
            if answer is QueueAnswer.OK and is_live:
                self._blame("at most one valid token a slot", item.slot, "queued under a live lease")
            if answer is QueueAnswer.OK and grant is not None and grant.is_reported:
                self._blame("what is reported is not queued again", item.slot, grant.token)
            if answer is QueueAnswer.BUSY and not is_live:
                self._blame("what lapsed or was released is free", item.slot, "busy")

    def _check_item(self, item: QueuedItem) -> None:
        kept, brought = self._world.kept_inside(item.slot), durable_nodes(item.progress)
        # Whether a commit was done whose reply was lost is known only once it is told again.
        if not kept <= brought and not self._world.faults["store_replies_lost"]:
            self._blame("progress is kept for the next claim", item.slot, f"{kept} recorded, not {brought}")

    def _on_open(self, actor: str, args: Any, _named: Any, _answer: None) -> None:
        _, epoch, opening = args
        self._note(actor, "open", opening.fan_out, f"epoch {epoch} recorded {len(opening.recorded)}")
        self._granted.epoch = epoch
        for slot in [slot for slot in self._granted.deliveries if slot.fan_out == opening.fan_out]:
            if slot.index in opening.recorded:
                self._granted.drop(slot)
        recorded = self._world.recorded_of(opening.fan_out)
        if self._world.kept(args[0]).run.epoch == epoch and set(opening.recorded) != recorded:
            told = f"{sorted(opening.recorded)}, recorded {sorted(recorded)}"
            self._blame("the ledger is made equal to the record", opening.fan_out, told)

    def _on_close(self, actor: str, args: Any, _named: Any, _answer: None) -> None:
        for slot in args[2]:
            self._note(actor, "close", slot)
            if slot not in self._witness.recorded and slot not in self._witness.errors:
                self._blame("recorded before it is closed", slot, "closed, and not in the record")
            self._granted.drop(slot)

    def _on_reset(self, actor: str, args: Any, _named: Any, _answer: None) -> None:
        for slot in args[2]:
            self._note(actor, "reset", slot)
            self._granted.free(slot)

    def _on_cancel(self, actor: str, args: Any, named: Any, _answer: None) -> None:
        what = named.get("fan_out") or args[0]
        self._note(actor, "cancel", what)
        self._granted.cancelled |= {(what, args[1])}

    def _on_forget(self, actor: str, args: Any, named: Any, _answer: None) -> None:
        fan_out = named.get("fan_out")
        self._note(actor, "forget", fan_out or args[0])
        self._witness.is_forgotten = self._witness.is_forgotten or fan_out is None
        for slot in [slot for slot in self._granted.deliveries if fan_out in (None, slot.fan_out)]:
            self._granted.drop(slot)

    def _now(self) -> float:
        return self._world.ledger_now()

    def _until(self, named: dict[str, Any]) -> float:
        return self._now() + float(named["ttl_seconds"])
