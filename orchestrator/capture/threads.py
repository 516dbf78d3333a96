"""Which threads of this process are at work."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import thread as pool


def busy_threads() -> Iterator[threading.Thread]:
    """All but those of thread pools that wait for work: what they are given next is somebody else's."""
    frames = sys._current_frames()  # noqa: SLF001 - nothing public tells it of other threads
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None or (frame.f_code.co_filename, frame.f_code.co_name) != (pool.__file__, "_worker"):
            yield thread
