"""What happened in a simulation, in order; and what must not have happened."""

from dataclasses import dataclass, field

SHOWN = 60


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `subject` is the slot or the run that it happened to."""

    at: float
    actor: str
    what: str
    subject: str
    facts: str = ""

    def __str__(self) -> str:
        return f"{self.at:9.3f} {self.actor:<14} {self.what:<16} {self.subject} {self.facts}"


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    subject: str
    told: str


@dataclass(slots=True)
class History:
    """The events of one simulation, and the violations that were seen in them."""

    events: list[Event] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def blame(self, invariant: str, subject: object, told: str) -> None:
        self.violations.append(Violation(invariant, str(subject), told))

    def about(self, subject: str) -> list[Event]:
        """The last events of a slot, together with all faults and owners."""
        wide = ("fault", "acquire", "finish")
        return [event for event in self.events if event.subject == subject or event.what in wide][-SHOWN:]
