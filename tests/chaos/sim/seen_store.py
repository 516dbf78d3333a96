"""What the store keeps, held against what it has kept before and what the ledger has granted."""

from typing import TYPE_CHECKING, Any

from orchestrator.checkpoint.row import RunStatus
from orchestrator.identity import Slot
from orchestrator.report import Outcome

if TYPE_CHECKING:
    from tests.chaos.sim.witness import Witness

MAX_DELIVERIES = 3
WRITES = frozenset({"save_step", "open_fan_out", "record", "record_inner", "record_losses", "finish", "renew"})


class SeenStore:
    """Judges what has taken effect in the record, call by call."""

    def __init__(self, witness: "Witness") -> None:
        self._witness = witness
        self._world = witness.world
        self._note = witness.note
        self._blame = witness.blame
        self._epoch = 0
        self._run: Any = None
        self._steps: dict[int, str] = {}
        self._rows: dict[Slot, Any] = {}

    def verb(self, actor: str, verb: str, args: tuple[Any, ...], answer: Any) -> None:
        if verb == "acquire":
            self._on_acquire(actor, args[0], answer.epoch)
        if verb in WRITES:
            own = args[0]
            if own.epoch < self._world.kept(own.run_id).run.epoch:
                self._blame("only the owner writes", own.run_id, f"epoch {own.epoch}: {verb}")
            if verb == "finish":
                self._note(actor, "finish", own.run_id, f"epoch {own.epoch} {args[1].value}")
        self._look_at_status()
        self._look_at_steps()
        self._look_at_record(actor)

    def _on_acquire(self, actor: str, run_id: str, epoch: int) -> None:
        self._note(actor, "acquire", run_id, f"epoch {epoch}")
        run = self._run
        is_driven = run is not None and run.status is RunStatus.RUNNING and run.owner not in (None, actor)
        if is_driven and run.lease_until > self._world.wall_now():
            self._blame("a driven run is left alone", run_id, f"{run.owner} has it until {run.lease_until}")
        if epoch <= self._epoch:
            self._blame("epochs rise", run_id, f"{epoch} after {self._epoch}")
        self._world.count("takeover", int(epoch > 1))
        self._epoch = epoch

    def _look_at_status(self) -> None:
        run, over = self._world.kept(self._world.run_id).run, self._witness.over
        self._run = run
        if over is not None and run.status.value != over:
            self._blame("the outcome is written once", run.run_id, f"{over}, then {run.status.value}")
        if run.status.is_over:
            self._witness.over = run.status.value

    def _look_at_steps(self) -> None:
        for position, step in self._world.kept(self._world.run_id).steps.items():
            if self._steps.setdefault(position, step.state) != step.state:
                self._blame("recorded steps never change", self._world.run_id, f"at position {position}")

    def _look_at_record(self, actor: str) -> None:
        kept = self._world.kept(self._world.run_id)
        seen = 0
        for fan_out, rows in kept.slots._rows.items():
            for index, generations in rows.items():
                for generation, row in generations.items():
                    seen += 1
                    self._look_at_row(actor, Slot(fan_out, index, generation), row)
        if seen < len(self._witness.recorded):
            self._blame("recorded slots never change", self._world.run_id, "a recorded slot is gone")
        for fan_out in kept.errors._rows:
            self._witness.errors.update(row.report.slot for row in kept.errors.latest(fan_out))

    def _look_at_row(self, actor: str, slot: Slot, row: Any) -> None:
        if self._rows.get(slot) is row:
            return
        self._rows[slot], report = row, row.report
        told = (report.token, report.hash)
        before = self._witness.recorded.setdefault(slot, told)
        if before is told:
            # The orchestrator's own instances have tokens that no seed decides.
            token = report.token if report.token in self._witness.tokens else ""
            self._note(actor, "record", slot, f"{report.outcome.value} {token}")
            self._judge_first(slot, report)
        elif before != told:
            self._blame("recorded slots never change", slot, f"{before}, then {told}")
            self._witness.recorded[slot] = told

    def _judge_first(self, slot: Slot, report: Any) -> None:
        over = self._witness.over
        if over is not None:
            self._blame("nothing comes after the outcome", slot, f"recorded after {over}")
        if slot != report.slot:
            self._blame("every index is recorded once", report.slot, f"recorded as {slot}")
        if report.outcome is Outcome.LOST:
            self._judge_loss(slot)
        elif self._world.is_stepped(slot.fan_out):
            return
        elif report.token not in self._witness.tokens:
            self._blame("the recorded token was granted", slot, report.token)
        elif self._world.is_on_workers(slot.fan_out) and not self._is_accepted(slot, report):
            self._blame("the recorded token was granted", slot, f"{report.token} reported something else")

    def _is_accepted(self, slot: Slot, report: Any) -> bool:
        return (slot, report.token, report.hash) in self._witness.accepted

    def _judge_loss(self, slot: Slot) -> None:
        claims = self._witness.claims.get(slot, 0)
        if claims < MAX_DELIVERIES:
            self._blame("given up after max_deliveries", slot, f"{claims} claims")
        # Whoever shares a process with the poisoned one is not charged with what that does.
        if slot.index != self._world.scenario.poison and self._world.fate.losses < MAX_DELIVERIES:
            self._blame("neighbours are not charged", slot, f"{self._world.fate.losses} other losses")
