"""Python finds this where libfaketime is loaded, which refuses the absolute times by which `time.sleep` waits."""

import select
import time


def sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = sleep
