"""Who holds a lease, so exactly that another process of the same host can tell whether it still lives."""

from dataclasses import dataclass

LARGEST_PID = 2**31 - 1


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
        """Read an owner's text back.

        Raises:
            ValueError: it is the text of none.
        """
        host, boot_id, pid_namespace, worker, pid, started_ms = text.split(":")
        owner = cls(host, boot_id, pid_namespace, worker, int(pid), int(started_ms))
        if str(owner) != text or not 0 < owner.pid <= LARGEST_PID:
            raise ValueError(f"no owner: {text!r}")
        return owner


def place_of(text: str) -> str:
    """The place in an owner's text; all of it where it is no such text."""
    return text.rsplit(":", 3)[0]


def worker_of(text: str) -> str:
    """The worker's name in an owner's text; all of it where it is no such text."""
    parts = text.rsplit(":", 3)
    return parts[1] if len(parts) == 4 else text
