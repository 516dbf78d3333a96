"""Which file system holds a path."""

from pathlib import Path

import pytest

from backends.health.file_system import NETWORK, VOLATILE, file_system_of

MOUNTS = r"""
22 27 0:20 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:25 / /srv rw,relatime shared:3 master:1 - xfs /dev/vdb rw
31 30 0:44 / /srv/share rw,relatime - nfs4 10.0.0.7:/export rw,vers=4.2
33 27 0:45 / /srv/with\040space rw - cifs //host/share rw
34 30 0:46 / /srv/hidden rw - nfs host:/old rw
35 34 0:47 / /srv/hidden rw - ext4 /dev/vdc rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/user/state.db", "ext4"),
        ("/srv/state.db", "xfs"),
        ("/srv/share/deep/state.db", "nfs4"),
        ("/srv/shared/state.db", "xfs"),
        ("/srv/with space/state.db", "cifs"),
        ("/srv/hidden/state.db", "ext4"),
    ],
)
def test_the_innermost_mount_that_is_not_hidden_holds_a_path(path, kind):
    assert file_system_of(Path(path), MOUNTS) == kind


def test_nfs_is_of_the_network_and_tmpfs_is_memory():
    assert {"nfs", "nfs4", "cifs", "9p"} <= NETWORK
    assert {"tmpfs"} <= VOLATILE
    assert not {"ext4", "xfs", "btrfs", "overlay", "zfs"} & (NETWORK | VOLATILE)


def test_this_host_tells_of_its_own():
    assert file_system_of(Path("/proc/self/environ")) in ("proc", None)
