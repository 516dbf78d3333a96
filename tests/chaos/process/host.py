"""Run a command as if on a host of its own: `python -m tests.chaos.process.host NAME COMMAND...`.

It has a host name of its own, by which workers tell whose processes they can look after: what dies there is seen by
the end of its lease only, as if the machine was gone.
"""

import ctypes
import os
import socket
import sys

_NEW_NAME = 0x04000000
_NEW_USER = 0x10000000


def main() -> None:
    name, *command = sys.argv[1:]
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if unshare(_NEW_NAME) and unshare(_NEW_NAME | _NEW_USER):
        sys.exit(f"no host name of its own, neither with root rights nor without: {os.strerror(ctypes.get_errno())}")
    socket.sethostname(name)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
