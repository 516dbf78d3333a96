"""An exception that went through a record answers as it did before."""

import json
from typing import Any

import pytest

from orchestrator.error_record import ErrorRecord
from orchestrator.errors import (
    InstanceLost,
    NodeException,
    PayloadTooLarge,
    ReducerError,
    RemoteError,
    StateValidationError,
)
from orchestrator.middleware.cause_chain import classify_cause_chain, derived_link, error_record
from orchestrator.middleware.rebuilding import rebuilt
from orchestrator.middleware.retry import default_classifier


class RateLimited(Exception):
    category = "provider_rate_limit"


def caused(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


ERRORS = [
    ValueError("plain"),
    RateLimited("slow down"),
    caused(NodeException("call", "slow down"), RateLimited("slow down")),
    caused(NodeException("outer", "x"), caused(NodeException("inner", "y"), caused(KeyError("k"), OSError("disk")))),
    NodeException("each", "no items", fan_out_category="fan_out_empty"),
    ReducerError("merge", "log", "append", "not a list"),
    PayloadTooLarge("item", 9, 8),
    InstanceLost(3, "worker-1"),
    StateValidationError("does not fit", fields=("a",)),
]


def through_json(error: BaseException) -> Exception:
    return rebuilt(ErrorRecord.from_json(json.loads(json.dumps(error_record(error).to_json()))))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_chain_and_what_it_means_are_the_same(error):
    again = through_json(error)
    assert classify_cause_chain(again) == classify_cause_chain(error)
    assert derived_link(classify_cause_chain(again)) == derived_link(classify_cause_chain(error))
    assert default_classifier(again, None) == default_classifier(error, None)


@pytest.mark.parametrize("error", [error for error in ERRORS if hasattr(error, "recoverable_state")], ids=repr)
def test_an_error_of_ours_has_its_class_and_its_category_again(error):
    again: Any = through_json(error)
    assert type(again) is type(error)
    assert (again.category, str(again)) == (error.category, str(error))


def test_an_exception_of_a_user_is_data_with_its_name_and_category():
    again = through_json(RateLimited("slow down"))
    assert isinstance(again, RemoteError)
    assert (again.category, again.record.type, again.record.message) == (
        "provider_rate_limit",
        "RateLimited",
        "slow down",
    )


def test_a_name_of_ours_with_no_category_is_a_users_own_class():
    class NodeException(Exception):
        pass

    assert isinstance(through_json(NodeException("mine")), RemoteError)


def test_what_a_fan_out_missed_is_told_again():
    again = through_json(NodeException("each", "no items", fan_out_category="fan_out_empty"))
    assert isinstance(again, NodeException)
    assert again.fan_out_category == "fan_out_empty"


def test_a_traceback_stays_that_of_where_it_was_raised():
    try:
        raise ValueError("here")
    except ValueError as error:
        record = error_record(error)
    assert error_record(rebuilt(record)).traceback == record.traceback
