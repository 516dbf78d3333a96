"""Forks processes that have imported already what commands and workers need.

Run as a module with the number of a socket: each datagram says what to run and brings three files: where the pid and,
at the end, the exit code are written, and the two streams. It ends when the socket does; what it forked goes on.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn

from celery.__main__ import main as celery

from rollforward.cli.main import main as rollforward
from tests.service.forking import LARGEST_REQUEST
from workers.hearing import hearing

_VERBS = ("run", "resume", "ls", "status", "items", "errors", "results", "verify", "cancel", "config", "doctor")
PRELOADED = (
    *(f"rollforward.cli.{verb}" for verb in _VERBS),
    *(f"celery.{module}" for module in ("bin.celery", "bin.worker", "apps.worker", "events.state", "worker.autoscale")),
    *(f"celery.concurrency.{pool}" for pool in ("prefork", "thread", "solo")),
    *(f"celery.worker.{module}" for module in ("components", "consumer", "request", "strategy")),
    "kombu.transport.redis",
    "workers.application",
    "workers.tasks",
)


def _serve(control: socket.socket) -> None:
    ended, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    answers: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control.fileno(), ended], [], [])
        if control.fileno() in ready:
            request, files, _, _ = socket.recv_fds(control, LARGEST_REQUEST, 3)
            if not request:
                return
            answer, *streams = files
            pid = os.fork()
            if pid == 0:
                for number in (ended, wakes, answer, *answers.values()):
                    os.close(number)
                control.close()
                _be(**json.loads(request), streams=streams)
            os.write(answer, f"{pid}\n".encode())
            answers[pid] = answer
            for stream in streams:
                os.close(stream)
        if ended in ready:
            os.read(ended, 1 << 16)
            _tell_of_ends(answers)


def _tell_of_ends(answers: dict[int, int]) -> None:
    while answers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        answer = answers.pop(pid)
        # Who asked may not wait for it any more.
        with contextlib.suppress(BrokenPipeError):
            os.write(answer, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os.close(answer)


def _be(
    *, program: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str], streams: Sequence[int]
) -> NoReturn:
    """Be the process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("PYTHONWARNINGS") == "default":
        warnings.simplefilter("default")
    os.chdir(folder)
    for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), *streams)):
        os.dup2(stream, number)
        os.close(stream)
    # A worker says how long it has not heard from its broker, which begins when this is imported.
    hearing.note()
    if program == "celery":
        sys.argv = [program, *arguments]
        celery()
        sys.exit()
    code: object = 1
    try:
        rollforward(arguments)
    except SystemExit as ending:
        code = ending.code
    except BaseException:  # noqa: BLE001 - it is shown as Python shows it, and the process ends
        traceback.print_exc()
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    # Nothing is registered to happen at exit, and taking all that was imported down again takes half a second.
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    for name in PRELOADED:
        import_module(name)
    # What is imported stays: no process has to look through it, and so to copy it.
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
