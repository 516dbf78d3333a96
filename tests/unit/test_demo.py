import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollforward.demo.stage import DemoFailed, Stage, find_checkout, wait_until
from rollforward.demo.witness import Execution, Witness


def test_a_witness_counts_every_execution_of_an_index(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness.txt")
    witness.path.write_text("0 11\n1 12\n0 13\n")
    assert witness.executions() == [Execution(0, 11), Execution(1, 12), Execution(0, 13)]
    assert witness.counts() == {0: 2, 1: 1}


def test_a_line_that_is_being_written_is_not_an_execution_yet(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness.txt")
    witness.path.write_text("0 11\n1 1")
    assert witness.executions() == [Execution(0, 11)]


def test_a_witness_that_nobody_wrote_to_has_seen_nothing(tmp_path: Path) -> None:
    assert Witness(tmp_path / "witness.txt").executions() == []


def test_the_stage_leaves_settings_of_a_deployment_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLFORWARD_REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    environment = Stage(tmp_path, tmp_path).environment()
    assert "redis://elsewhere" not in environment.values()
    assert environment["PATH"] == os.environ["PATH"]


def test_the_stage_finds_and_ends_its_own_processes_only(tmp_path: Path) -> None:
    stage = Stage(tmp_path, tmp_path)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        subprocess.Popen(command, env=stage.environment(), stdin=subprocess.PIPE) as ours,
        subprocess.Popen(command, stdin=subprocess.PIPE) as stranger,
    ):
        wait_until(lambda: [process.pid for process in stage.processes()] == [ours.pid], "ours was found", seconds=10)
        stage.clear()
        assert ours.wait(timeout=10) < 0
        assert stranger.poll() is None
    assert list(stage.processes()) == []


def test_waiting_in_vain_names_what_was_waited_for() -> None:
    with pytest.raises(DemoFailed, match="until the moon rose"):
        wait_until(lambda: False, "the moon rose", seconds=0.01)


def test_the_checkout_is_where_the_examples_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (find_checkout() / "examples/stdlib_audit.py").is_file()
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/stdlib_audit.py").touch()
    assert find_checkout() == tmp_path
