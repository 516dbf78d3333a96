"""How large a deployment is, and how quick."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Counts of one deployment. `runs` are driven at once, each with `concurrency` of its `instances` at a time.

    An orchestrator's own lease is 10 s and no setting. `at_once` faults of a kind come together.
    """

    workers: int = 8
    processes: int = 2
    orchestrators: int = 6
    runs: int = 4
    instances: int = 40
    concurrency: int = 2
    seconds: float = 2.0
    lease_seconds: float = 15.0
    at_once: int = 2

    @property
    def patience(self) -> float:
        """Within so many seconds after the last fault every run is to be over."""
        return 60 + 4 * self.lease_seconds + self.instances * self.seconds / self.concurrency


DEFAULT = Size()
SMALL = Size(workers=4, orchestrators=3, runs=2, instances=30, seconds=0.4, lease_seconds=2.0, at_once=1)
"""What a test starts."""

ORCHESTRATOR_LEASE_SECONDS = 10.0
