"""Output of code that is not ours, kept apart from data."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from orchestrator.capture.tap import flush_c_output


@contextmanager
def stdout_aside() -> Iterator[None]:
    """Send to stderr what is written to stdout in here, by child processes and C code too: stdout is for our data."""
    if sys.stdout is None or sys.stderr is None:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        flush_c_output()
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
