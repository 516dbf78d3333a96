"""The demo, as `make demo` plays it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.left_over import left_over

ROOT = Path(__file__).parents[2]
PROOF = re.compile(r"verify: ok expected=(\d+) recorded=(\d+) missing=0 duplicates=0 re-executed=(\d+)")


@pytest.mark.timeout(300)
def test_the_demo_kills_resumes_and_proves_its_sum(tmp_path: Path) -> None:
    environment = {**os.environ, "DEMO_TEST": str(tmp_path), "TMPDIR": str(tmp_path)}
    report = tmp_path / "audit.json"
    command = [sys.executable, "-m", "rollforward", "demo", "--report", str(report)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    proof = PROOF.fullmatch(done.stdout.splitlines()[-1])
    assert proof is not None, done.stdout
    expected, recorded, again = map(int, proof.groups())
    assert expected == recorded > 1500
    assert again <= 8
    assert done.stdout.count("SIGKILL to") == 2
    assert json.loads(report.read_text())["files"] == expected
    assert left_over("DEMO_TEST", str(tmp_path)) == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith("rollforward-demo-")] == []
