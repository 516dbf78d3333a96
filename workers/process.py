"""Which process this is, and whether another one still lives."""

import os
import socket
from pathlib import Path

import psutil

from orchestrator.ledger.owner import Owner


def this_owner(worker: str) -> Owner:
    """This process, as the owner of leases."""
    pid = os.getpid()
    return Owner(
        host=socket.gethostname().replace(":", "_"),
        boot_id=_boot_id(),
        pid_namespace=_pid_namespace(),
        worker=worker,
        pid=pid,
        started_ms=started_ms(psutil.Process(pid)),
    )


def is_alive(owner: Owner) -> bool:
    """Say whether the process of an owner of this place runs: same pid, same start, no zombie."""
    try:
        process = psutil.Process(owner.pid)
        is_same = started_ms(process) == owner.started_ms
        return is_same and process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def started_ms(process: psutil.Process) -> int:
    """When a process started, in milliseconds since the host did: a number that no setting of its clock changes.

    Where the system does not tell that, since 1970.

    Raises:
        psutil.NoSuchProcess: there is none any more.
    """
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return round(float(process.create_time()) * 1000)
    # The 22nd field of proc(5), in clock ticks; the name, which is the second, may hold spaces.
    return int(fields[19]) * 1000 // os.sysconf("SC_CLK_TCK")


def _boot_id() -> str:
    kept = Path("/proc/sys/kernel/random/boot_id")
    return kept.read_text().strip() if kept.exists() else str(int(psutil.boot_time()))


def _pid_namespace() -> str:
    link = Path("/proc/self/ns/pid")
    return "".join(filter(str.isdigit, str(link.readlink()))) if link.is_symlink() else "0"
