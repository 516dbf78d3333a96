"""Processes that somebody started and that still live, told by their environment."""

import psutil


def left_over(variable: str, value: str) -> list[str]:
    """The command lines of all that have this variable with this value."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
