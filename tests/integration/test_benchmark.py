"""The benchmark runs, and prints what is tabulated."""

import json
import subprocess
import sys

import pytest

from tests.service.worker import REPOSITORY


@pytest.mark.parametrize("executor", ["local", "celery"])
def test_it_prints_rate_ratio_bytes_and_memory(executor: str) -> None:
    command = [sys.executable, "-m", "benchmarks.fan_out", "--instances", "60", "--executor", executor, "-o", "json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert (printed["instances"], printed["executor"], printed["checkpoint"]) == (60, executor, "sqlite")
    assert printed["ratio"] == pytest.approx(printed["rate_per_s"] / printed["bare_group_rate_per_s"], rel=0.02)
    assert {"store_bytes_per_instance", "written_bytes_per_instance", "memory_bytes_per_instance"} <= set(printed)


def test_its_parts_can_be_measured_alone() -> None:
    command = [sys.executable, "-m", "benchmarks.fan_out", "--instances", "60", "--parts", "-o", "json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert all(printed[part] > 0 for part in ("publish_us", "claim_and_report_us", "record_us"))
