"""Which process this is, and whether another one still lives."""

import os
import socket
from pathlib import Path

import psutil

from orchestrator.ledger.owner import Owner

# Start times are derived from the boot time, which steps by a second when the host's clock is set.
_SAME_START_MS = 2_000


def this_owner(worker: str) -> Owner:
    """This process, as the owner of leases."""
    pid = os.getpid()
    return Owner(
        host=socket.gethostname().replace(":", "_"),
        boot_id=_boot_id(),
        pid_namespace=_pid_namespace(),
        worker=worker,
        pid=pid,
        started_ms=_started_ms(psutil.Process(pid)),
    )


def is_alive(owner: Owner) -> bool:
    """Say whether the process of an owner of this place runs: same pid, same start, no zombie."""
    try:
        process = psutil.Process(owner.pid)
        same = abs(_started_ms(process) - owner.started_ms) <= _SAME_START_MS
        return same and process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _started_ms(process: psutil.Process) -> int:
    return round(float(process.create_time()) * 1000)


def _boot_id() -> str:
    kept = Path("/proc/sys/kernel/random/boot_id")
    return kept.read_text().strip() if kept.exists() else str(int(psutil.boot_time()))


def _pid_namespace() -> str:
    link = Path("/proc/self/ns/pid")
    return "".join(filter(str.isdigit, str(link.readlink()))) if link.is_symlink() else "0"
