"""An execution that stays in its middle until it is let go, and what tells a test that it is there."""

import os
from pathlib import Path


def ask_to_hold(folder: Path, index: int) -> None:
    """Have the next execution of an instance stay; those after it run through."""
    (folder / f"hold-{index}").touch()


def take_hold(folder: Path, index: int) -> Path | None:
    """What this execution has to stay for as long as it exists; None where it is not to stay."""
    held = folder / f"held-{index}-{os.getpid()}"
    try:
        return (folder / f"hold-{index}").rename(held)
    except FileNotFoundError:
        return None


def held(folder: Path) -> dict[int, int]:
    """The pids of the processes that stay, by index."""
    names = (path.name.split("-") for path in folder.glob("held-*"))
    return {int(index): int(pid) for _, index, pid in names}


def let_go(folder: Path) -> None:
    """Let every execution that stays go on."""
    for path in folder.glob("held-*"):
        path.unlink()
