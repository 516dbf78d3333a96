import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

from rollforward.demo.stage import DemoFailed, Stage, wait_until
from rollforward.demo.witness import Execution

RUN = "demo"
GRAPH = "examples.stdlib_audit:graph"
WORKER_DIES_AT = 0.25
ORCHESTRATOR_DIES_AT = 0.5


def tell(checkout: Path, report: Path) -> None:
    """Play the whole story, and print the line that proves it last.

    Raises:
        DemoFailed: something is not as promised; the working folder is kept.
    """
    stage = Stage(Path(tempfile.mkdtemp(prefix="rollforward-demo-")), checkout)
    try:
        proof = play(stage, report)
    except (DemoFailed, subprocess.TimeoutExpired) as error:
        raise DemoFailed(f"{error}; what it left is in {stage.folder}") from error
    finally:
        stage.clear()
    shutil.rmtree(stage.folder)
    click.echo(proof)


def play(stage: Stage, report: Path) -> str:
    """Crash the audit, resume it, show its report; answer the line that proves it."""
    crash(stage)
    recorded = recorded_indexes(stage)
    before = stage.witness.counts()
    say(f"{len(recorded)} instances are recorded; resuming")
    run = stage.ask("resume", RUN, "-o", "json")
    wait_until(lambda: not any(stage.processes()), "the resumed run had left no process")
    after = stage.witness.counts()
    again = [index for index in recorded if after[index] > before[index]]
    if again:
        raise DemoFailed(f"{len(again)} instances ran again although they were recorded: {again[:10]}")
    say(f"none of the {len(recorded)} recorded instances ran again")
    show(stage, run, report)
    return prove(stage)


def crash(stage: Stage) -> None:
    """Start the audit, kill a busy worker process and later the orchestrator, and wait until nothing is left."""
    orchestrator = stage.start("run", GRAPH, "--workers", "2", "--run-id", RUN, "-o", "json")
    with orchestrator:
        try:
            total = expected(stage, orchestrator)
            wait_for_share(stage, orchestrator, WORKER_DIES_AT * total)
            victim = kill_busy_worker(stage)
            say(f"SIGKILL to worker process {victim.pid}, which was running instance {victim.index}")
            wait_for_share(stage, orchestrator, ORCHESTRATOR_DIES_AT * total)
        finally:
            orchestrator.kill()
    say(f"SIGKILL to the orchestrator, process {orchestrator.pid}")
    wait_until(lambda: not any(stage.processes()), "every process of the killed run had ended")
    say("no process of the run is left")


def expected(stage: Stage, orchestrator: subprocess.Popen[str]) -> int:
    """Wait for the first execution, then ask how many instances there are."""
    wait_while_running(orchestrator, lambda: bool(stage.witness.executions()), "the first instance ran")
    return sum(stage.ask_json("status", RUN)["counts"].values())


def wait_for_share(stage: Stage, orchestrator: subprocess.Popen[str], executions: float) -> None:
    """Wait until so many executions have begun."""
    what = f"{executions:.0f} instances had run"
    wait_while_running(orchestrator, lambda: len(stage.witness.executions()) >= executions, what)


def wait_while_running(orchestrator: subprocess.Popen[str], condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds, which only a live orchestrator can bring about."""

    def has_come() -> bool:
        if orchestrator.poll() is not None:
            raise DemoFailed(f"the run ended with exit code {orchestrator.returncode} before {what}")
        return condition()

    wait_until(has_come, what, seconds=120)


def kill_busy_worker(stage: Stage) -> Execution:
    """Kill a worker process at the moment it has begun an instance."""
    seen = len(stage.witness.executions())
    wait_until(lambda: len(stage.witness.executions()) > seen, "an instance began", every=0.001)
    victim = stage.witness.executions()[-1]
    try:
        psutil.Process(victim.pid).kill()
    except psutil.NoSuchProcess as error:
        raise DemoFailed(f"worker process {victim.pid} ended by itself") from error
    return victim


def recorded_indexes(stage: Stage) -> list[int]:
    """The instances that are in the record, whatever processes live."""
    lines = stage.ask("items", RUN, "--state", "succeeded", "--state", "failed", "-o", "jsonl").splitlines()
    return [json.loads(line)["fan_out_index"] for line in lines]


def show(stage: Stage, run: str, report: Path) -> None:
    """Print the report of the finished run, and keep it as JSON."""
    command = [sys.executable, "-m", "examples.stdlib_audit", str(report)]
    done = subprocess.run(command, input=run, text=True, cwd=stage.folder, env=stage.environment(), check=False)
    if done.returncode != 0:
        raise DemoFailed("the report could not be printed")
    say(f"the report is in {report}")


@dataclass(frozen=True, slots=True)
class Sum:
    """What `verify` counted, over all fan-outs."""

    expected: int
    recorded: int
    missing: int
    duplicates: int


def prove(stage: Stage) -> str:
    """Let `verify` count, and say it in one line.

    Raises:
        DemoFailed: it does not add up.
    """
    verification = stage.ask_json("verify", RUN)
    fan_outs = verification["fan_outs"]
    total = Sum(*(sum(fan_out[name] for fan_out in fan_outs) for name in Sum.__slots__))
    if not verification["ok"] or total.missing or total.duplicates or total.expected != total.recorded:
        raise DemoFailed(f"verify does not add up: {total}")
    counts = stage.witness.counts()
    return (
        f"verify: ok expected={total.expected} recorded={total.recorded} missing={total.missing} "
        f"duplicates={total.duplicates} re-executed={counts.total() - len(counts)}"
    )


def say(text: str) -> None:
    """Tell the next event on a line of its own, also where a progress bar stands."""
    click.echo(f"\ndemo: {text}")
