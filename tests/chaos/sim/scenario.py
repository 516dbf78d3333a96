"""What a seed stands for: a graph, a deployment, and what befalls it."""

import random
from dataclasses import dataclass

SHAPES = ("collect", "collect", "fail_fast", "loop", "nested", "durable", "outer")
WORKER_FAULTS = ("kill_child", "lose_host", "freeze_worker", "partition_worker", "shut_worker_down", "other_code")
LATE_FAULTS = ("freeze_worker", "partition_worker", "shut_worker_down")
SERVER_FAULTS = ("kill_server", "freeze_server")
LEDGER_FAULTS = ("wipe", "rollback", "clock_step", "ledger_away", "ledger_refuses", "ledger_replies_lost")
STORE_FAULTS = ("store_away", "store_refuses", "store_replies_lost")
KINDS = (*WORKER_FAULTS, *SERVER_FAULTS, *LEDGER_FAULTS, *STORE_FAULTS, "broker_away")

OWNERS_STEPS = ("acquire", "renew", "save_step", "save_step", "open_fan_out", "finish", "finish", "finish", "forget")
RECORDERS_STEPS = (
    "open",
    "queue",
    "dispatch",
    "record",
    "record_inner",
    "record_losses",
    "close",
    "sweep",
    "reset",
    "told",
)
WORKER_STEPS = ("claim", "briefing", "beat", "progress", "report")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that befalls the deployment `at` seconds after the start, for so many seconds; `pick` says whom."""

    at: float
    kind: str
    seconds: float
    pick: int


@dataclass(frozen=True, slots=True)
class Ambush:
    """Something that befalls a process just before or after it takes a step for the `nth` time, whichever it is.

    `seconds` are how long it is frozen, or how soon another takes the place of the killed.
    """

    is_server: bool
    step: str
    is_before: bool
    nth: int
    is_kill: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that is decided before the simulation begins; `lost`, `doubled` and `late` are shares of the messages."""

    seed: int
    shape: str
    count: int
    workers: int
    slots: int
    servers: int
    visits: int
    concurrency: int | None
    failing: frozenset[int]
    poison: int | None
    lost: float
    doubled: float
    late: float
    slow: float
    faults: tuple[Fault, ...]
    ambushes: tuple[Ambush, ...]
    cancel_at: float | None

    def has(self, *kinds: str) -> bool:
        """Whether any fault of these kinds befalls it."""
        return any(fault.kind in kinds for fault in self.faults)

    @property
    def only_misses_its_ledger(self) -> bool:
        """Whether nothing befalls it but that its ledger is away: nothing is lost by that, and nothing runs twice."""
        return not self.ambushes and all(fault.kind == "ledger_away" for fault in self.faults)

    def is_caught_before(self, *steps: str) -> bool:
        """Whether a process is frozen or killed before any of these steps."""
        return any(ambush.step in steps and ambush.is_before for ambush in self.ambushes)

    @classmethod
    def of(cls, seed: int) -> "Scenario":
        rng = random.Random(f"scenario {seed}")
        shape, count = rng.choice(SHAPES), rng.randint(3, 12)
        failing = frozenset(index for index in range(count) if rng.random() < 0.15)
        return cls(
            seed=seed,
            shape=shape,
            count=min(count, 5) if shape == "outer" else count,
            workers=rng.randint(1, 4),
            slots=rng.randint(1, 3),
            servers=rng.randint(1, 3),
            visits=rng.randint(2, 3) if shape == "loop" else 1,
            concurrency=rng.choice((None, 1, 2, 4)),
            failing=frozenset() if shape in ("nested", "outer") else failing,
            poison=rng.randrange(count) if shape == "collect" and rng.random() < 0.4 else None,
            lost=rng.choice((0.0, 0.0, 0.1, 0.3)),
            doubled=rng.choice((0.0, 0.1, 0.4)),
            late=rng.choice((0.0, 0.1, 0.4)),
            slow=rng.choice((0.5, 3.0, 12.0)),
            faults=_faults(rng),
            ambushes=tuple(_ambush(rng) for _ in range(rng.choice((0, 0, 1, 2)))),
            cancel_at=rng.uniform(0.1, 20) if rng.random() < 0.1 else None,
        )


def _faults(rng: random.Random) -> tuple[Fault, ...]:
    mixed = (KINDS, KINDS, WORKER_FAULTS, SERVER_FAULTS, LEDGER_FAULTS, STORE_FAULTS)
    kinds = rng.choice((*mixed, LATE_FAULTS, ("broker_away",), ("ledger_away",)))
    count = rng.choice((0, 1, 2, 3, 5, 8))
    drawn = (
        Fault(rng.uniform(0, rng.choice((2, 10, 40))), rng.choice(kinds), rng.uniform(0.5, 30), rng.randrange(1000))
        for _ in range(count)
    )
    return tuple(sorted(drawn, key=lambda fault: fault.at))


def _ambush(rng: random.Random) -> Ambush:
    is_server = rng.random() < 0.7
    steps = rng.choice((OWNERS_STEPS, RECORDERS_STEPS)) if is_server else WORKER_STEPS
    step = rng.choice(steps)
    return Ambush(
        is_server=is_server,
        step=step,
        is_before=rng.random() < 0.7,
        nth=1 if step in OWNERS_STEPS else rng.randint(1, 4),
        is_kill=rng.random() < 0.4,
        seconds=rng.uniform(5, 30),
    )
