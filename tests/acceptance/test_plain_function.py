"""A plain function, which nothing can stop, keeps no local run alive."""

import signal

import pytest

from tests.service.worker import wait_until


def waiting(cli, graph, *more):
    fields = ["numbers=[1]", 'act="wait"', f'folder="{cli.folder}"']
    return ("run", f"tests.graph.plain:{graph}", *(part for one in fields for part in ("--set", one)), *more)


def notes(cli):
    return list(cli.folder.glob("started-*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_local_run_at_once_although_a_plain_function_goes_on(cli, number, code):
    with cli.started(*waiting(cli, "graph", "--executor", "local", "--run-id", "one")) as process:
        wait_until(lambda: notes(cli), what="the function runs")
        process.send_signal(number)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == code
    assert "rollforward resume one" in stderr
    assert "Traceback" not in stderr
    (cli.folder / "go").touch()
    assert cli.ok("resume", "one", "-o", "json").document["state"]["results"] == ["2"]


def test_a_local_run_ends_although_a_function_goes_on_past_its_limit(cli):
    ended = cli.run(*waiting(cli, "limited", "--executor", "local", "-o", "json"))
    assert ended.document["state"]["results"] == []
