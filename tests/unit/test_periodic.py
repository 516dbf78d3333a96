"""A thread that does one thing again and again."""

import pytest

from orchestrator.errors import LedgerUnavailable
from tests.service.worker import wait_until
from workers.periodic import Periodic


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), KeyError("a mistake of ours")], ids=repr)
def test_whatever_is_raised_is_said_and_the_thread_goes_on_to_the_last_call(error, caplog):
    calls = []

    def act():
        calls.append("act")
        raise error

    def last():
        calls.append("last")
        raise error

    periodic = Periodic("a-thread", act, every_seconds=0.01, last=last)
    periodic.start()
    wait_until(lambda: len(calls) > 2, what="it is done again")
    periodic.end()
    periodic.join()
    assert calls[-1] == "last"
    assert str(error) in caplog.text
