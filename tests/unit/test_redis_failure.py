"""What an error of the Redis client means to the ledger's users."""

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    DataError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from backends.ledgers.redis.client import failure
from orchestrator.errors import Fenced, LedgerLost, LedgerUnavailable

URL = "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize(
    "kind",
    [
        AuthenticationError,
        BusyLoadingError,
        ConnectionError,
        InvalidResponse,
        NoPermissionError,
        RedisError,
        TimeoutError,
    ],
)
def test_what_may_pass_is_an_outage_that_says_what_to_do(kind):
    told = failure(kind("as told"), URL)
    assert isinstance(told, LedgerUnavailable)
    start, _, advice = str(told).rpartition("; ")
    assert start == f"Redis at {URL}: as told"
    assert advice


@pytest.mark.parametrize(
    "told",
    [
        "Error running script (call to f_x): @user_script:3: The user executing the script can't run this command",
        "ACL failure in script: User guest has no permissions to run the 'unlink' command script: x",
    ],
)
def test_what_a_script_may_not_do_is_told_as_what_a_user_may_not_do(told):
    assert "security.md" in str(failure(ResponseError(told), URL))


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("ERR Error running script (call to f_x): attempt to index a nil value"),
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        DataError("Invalid input of type: 'dict'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_of_ours_stays_what_it_is(error):
    assert failure(error, URL) is error


def test_a_refusal_of_a_script_is_our_own_error():
    fenced = failure(ResponseError("FENCED by a later epoch"), URL, run_id="r", epoch=3)
    assert isinstance(fenced, Fenced)
    assert (fenced.run_id, fenced.epoch) == ("r", 3)
    assert isinstance(failure(ResponseError("LEDGERLOST epoch"), URL, run_id="r"), LedgerLost)
