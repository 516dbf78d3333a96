"""On what kind of file system a path is."""

import re
from pathlib import Path

NETWORK = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs"),
        *("gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb2", "smb3", "smbfs", "vboxsf"),
    }
)
"""Kinds that other hosts write to as well, and whose locks and flushes SQLite must not rely on."""

VOLATILE = frozenset({"ramfs", "tmpfs"})
"""Kinds that are memory."""

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system_of(path: Path, mounts: str | None = None) -> str | None:
    """The kind of the file system that holds a path, which need not exist; None where the host does not tell.

    `mounts` is what Linux shows as `mountinfo` of a process; by default of this one.
    """
    if mounts is None:
        if not _MOUNTS.exists():
            return None
        mounts = _MOUNTS.read_text()
    found = None
    longest = -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda code: chr(int(code.group(1), 8)), before.split()[4]))
        # Of two mounted at one place, the later one hides the other.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = after.split()[0], len(point.parts)
    return found
