"""A SQLite file that several processes have open."""

import asyncio
import subprocess
import sys
from pathlib import Path

from backends.opening import open_store
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import NewRun, RunFilter

READER = """
import asyncio, sys
from backends.opening import open_store
from orchestrator.checkpoint.row import RunFilter

async def read():
    store = open_store(sys.argv[1], namespace="rollforward")
    print(*sorted(run.run_id for run in await store.list_runs(RunFilter())))
    await store.close()

asyncio.run(read())
"""


async def submit(store: CheckpointStore, run_id: str) -> None:
    await store.create(NewRun(run_id=run_id, graph="g", fingerprint="f", correlation_id="c", state="{}"))


def seen_by_another_process(url: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", READER, url], capture_output=True, text=True, check=True)
    return done.stdout.split()


async def test_what_is_committed_stays_when_another_process_has_come_and_gone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    store = open_store(url, namespace="rollforward")
    await submit(store, "first")
    await store.list_runs(RunFilter())
    assert await asyncio.to_thread(seen_by_another_process, url) == ["first"]
    await submit(store, "second")
    assert await asyncio.to_thread(seen_by_another_process, url) == ["first", "second"]
    await store.close()


async def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/new/state.db", namespace="rollforward")
    await submit(store, "first")
    assert (tmp_path / "new" / "state.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    await store.close()
