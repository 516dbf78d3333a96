"""Python finds this where libfaketime is loaded, which refuses the absolute times by which `time.sleep` waits."""

import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex, /) -> None:
    select.select([], [], [], float(seconds))


time.sleep = sleep
