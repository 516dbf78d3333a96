"""Who holds a lease, so exactly that another process of the same host can tell whether it still lives."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: `host:boot_id:pid-namespace:worker:pid:start time`, as its text.

    A pid alone would name another process after a reboot, in another container, or when it is used again.
    """

    host: str
    boot_id: str
    pid_namespace: str
    worker: str
    pid: int
    started_ms: int

    def __str__(self) -> str:
        return f"{self.place}:{self.worker.replace(':', '_')}:{self.pid}:{self.started_ms}"

    @property
    def place(self) -> str:
        """Where its pid means something: `host:boot_id:pid-namespace`."""
        return f"{self.host}:{self.boot_id}:{self.pid_namespace}"

    @classmethod
    def parse(cls, text: str) -> "Owner":
        host, boot_id, pid_namespace, worker, pid, started_ms = text.split(":")
        return cls(host, boot_id, pid_namespace, worker, int(pid), int(started_ms))
