"""What `run` and `resume` advise at their end."""

import signal
from pathlib import Path

import pytest

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import NodeException
from rollforward.cli.conclusion import report
from rollforward.cli.drive import Conclusion
from rollforward.embedded.folder import Folder
from rollforward.hosting import Host
from tests.unit.graph_of_numbers import Numbers, numbers_graph
from workers.settings import Settings

DEPLOYED = Host(Settings(redis_url="redis://localhost:6379/0"), "celery")
EMBEDDED = Host(Settings(redis_url=None), "celery", folder=Folder(Path()))
LOCAL_WITHOUT_FOLDER = Host(Settings(redis_url=None), "local")
ADDRESS = "work:graph"


def ended(status: RunStatus, **facts) -> Conclusion:
    return Conclusion(run_id="one", invocation_id="one", status=status, **facts)


LEFT = ended(RunStatus.SUBMITTED, left_by=signal.SIGINT)
FAILED = ended(RunStatus.FAILED, error=NodeException("load", "no such file"))


@pytest.fixture
def said(capsys):
    def told(conclusion: Conclusion, host: Host, address: str | None = ADDRESS) -> list[str]:
        report(conclusion, numbers_graph(), host=host, address=address, output="json")
        stderr: str = capsys.readouterr().err
        return stderr.splitlines()

    return told


@pytest.mark.parametrize("conclusion", [LEFT, FAILED])
@pytest.mark.parametrize("host", [DEPLOYED, LOCAL_WITHOUT_FOLDER])
def test_where_nothing_remembers_the_graph_the_hint_names_it(said, conclusion, host):
    assert said(conclusion, host)[-1] == "go on with it: rollforward resume one --graph work:graph"


@pytest.mark.parametrize("conclusion", [LEFT, FAILED])
def test_the_hint_of_an_embedded_run_needs_no_graph(said, conclusion):
    assert said(conclusion, EMBEDDED)[-1] == "go on with it: rollforward resume one"


def test_a_graph_that_the_settings_gave_is_not_named(said):
    assert said(LEFT, DEPLOYED, None)[-1] == "go on with it: rollforward resume one"


def test_whoever_leaves_a_deployed_run_is_told_what_becomes_of_it(said):
    stays, _ = said(LEFT, DEPLOYED)
    assert "run one stays submitted, and a `rollforward serve` that has its graph goes on with it" in stays
    assert "`rollforward cancel one` ends it" in stays


def test_an_embedded_run_that_was_left_goes_on_nowhere(said):
    assert len(said(LEFT, EMBEDDED)) == 1


def test_a_failed_run_ends_its_sentence_with_where_the_errors_are(said):
    sentence, _ = said(FAILED, EMBEDDED)
    assert "no such file" in sentence
    assert sentence.endswith("; see `rollforward errors one`")


@pytest.mark.parametrize(("count", "what"), [(1, "1 instance failed"), (3, "3 instances failed")])
def test_a_run_that_collected_failures_says_how_many(said, count, what):
    conclusion = ended(RunStatus.SUCCEEDED, state=Numbers(), failed_count=count)
    assert said(conclusion, EMBEDDED) == [f"{what}; see `rollforward errors one`"]


def test_a_run_without_failures_says_nothing_on_stderr(said):
    assert said(ended(RunStatus.SUCCEEDED, state=Numbers()), EMBEDDED) == []
