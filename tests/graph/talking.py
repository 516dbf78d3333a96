"""A fan-out whose instances print, log and start processes; `act` says how."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from celery.utils.log import get_task_logger

from rollforward import END, GraphBuilder, State, append, instance_logger

log = logging.getLogger("talking")
of_task = get_task_logger("talking.task")
say = print


class Speaker(State):
    number: int = 0
    act: str = "speak"
    folder: str = ""
    words: int = 0


class Speakers(State):
    numbers: list[int] = []
    act: str = "speak"
    folder: str = ""
    words: Annotated[list[int], append] = []


async def speak(speaker: Speaker) -> dict[str, Any]:
    """Say something in every way that there is."""
    say(f"out {speaker.number}")
    say(f"err {speaker.number}", file=sys.stderr)
    log.info("logged %d", speaker.number)
    of_task.info("of a task")
    instance_logger().warning("of the instance, password=hunter2")
    return await asyncio.to_thread(_in_detail, speaker)


def _in_detail(speaker: Speaker) -> dict[str, Any]:
    match speaker.act:
        case "child":
            subprocess.run(["/bin/sh", "-c", "echo child out; echo child err >&2"], check=True)
            os.write(1, b"raw \xff\n")
        case "fail":
            raise ValueError(f"speaker {speaker.number} is hoarse")
        case "flood":
            for number in range(10_000):
                say(f"{speaker.number}: {number}")
        case "wait":
            _wait(speaker)
    return {"words": speaker.number}


def _wait(speaker: Speaker) -> None:
    """Say which process this is, and wait until a test lets it end; it says that, too."""
    folder = Path(speaker.folder)
    (folder / f"started-{speaker.number}-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
    say(f"went {speaker.number}")


speaker = GraphBuilder(Speaker).add_node("speak", speak).set_entry("speak").add_edge("speak", END).compile()

graph = (
    GraphBuilder(Speakers)
    .add_fan_out_node(
        "speakers",
        subgraph=speaker,
        items_field="numbers",
        item_field="number",
        collect_field="words",
        target_field="words",
        inputs={"act": "act", "folder": "folder"},
        error_policy="collect",
        key=lambda number: f"speaker-{number}",
    )
    .set_entry("speakers")
    .add_edge("speakers", END)
    .compile("talking")
)
