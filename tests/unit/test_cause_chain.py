from itertools import pairwise

import pytest

from orchestrator.error_record import CauseLink, ErrorRecord
from orchestrator.errors import NodeException, RemoteError
from orchestrator.middleware.cause_chain import (
    MAX_MESSAGE_CHARACTERS,
    MAX_TRACEBACK_BYTES,
    classify_cause_chain,
    error_record,
)


class ProviderError(Exception):
    def __init__(self, message: str, category: str | None = None) -> None:
        if category is not None:
            self.category = category
        super().__init__(message)


def caused(*errors: BaseException) -> BaseException:
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def wrapped(error: BaseException) -> BaseException:
    return caused(NodeException("work", error), error)


def test_an_error_by_itself_is_one_link():
    assert classify_cause_chain(ProviderError("down", "provider_unavailable")) == (
        CauseLink("provider_unavailable", "down", "ProviderError", carrier=False),
    )


def test_a_node_exception_with_a_cause_is_a_carrier():
    record = error_record(wrapped(ProviderError("down", "provider_unavailable")))
    assert [(link.carrier, link.category) for link in record.chain] == [
        (True, "node_exception"),
        (False, "provider_unavailable"),
    ]
    assert (record.category, record.message, record.type) == ("provider_unavailable", "down", "ProviderError")


def test_carriers_may_be_nested():
    record = error_record(wrapped(wrapped(ProviderError("down", "provider_unavailable"))))
    assert [link.carrier for link in record.chain] == [True, True, False]
    assert record.category == "provider_unavailable"


def test_the_outermost_category_that_is_no_carriers_counts():
    surface, origin = ProviderError("surface", "provider_invalid_response"), ProviderError("o", "provider_unavailable")
    record = error_record(wrapped(caused(surface, origin)))
    assert (record.category, record.message) == ("provider_invalid_response", "surface")


def test_a_category_is_found_behind_an_error_without_one():
    record = error_record(caused(ValueError("outer"), ProviderError("down", "provider_unavailable")))
    assert (record.category, record.message) == ("provider_unavailable", "down")


def test_without_any_category_the_outermost_that_is_no_carrier_counts():
    record = error_record(wrapped(ValueError("boom")))
    assert (record.category, record.message, record.type) == (None, "boom", "ValueError")


@pytest.mark.parametrize("category", ["", 3, None])
def test_only_a_text_is_a_category(category):
    error = ProviderError("x")
    error.category = category
    assert error_record(error).category is None


def test_a_node_exception_without_a_cause_says_itself_what_happened():
    record = error_record(NodeException("work", "no items", fan_out_category="fan_out_empty"))
    assert record.category == "fan_out_empty"
    assert [link.carrier for link in record.chain] == [False]


def test_an_error_of_another_process_brings_its_chain():
    there = error_record(wrapped(ProviderError("down", "provider_unavailable")))
    here = error_record(caused(NodeException("fan", "x"), RemoteError(there)))
    assert [link.type for link in here.chain] == ["NodeException", "NodeException", "ProviderError"]
    assert here.category == "provider_unavailable"
    bare = ErrorRecord(None, "boom", "ValueError", traceback="its own")
    assert error_record(RemoteError(bare)) == ErrorRecord(
        None, "boom", "ValueError", "its own", (CauseLink(None, "boom", "ValueError"),)
    )


def test_a_cause_is_followed_and_what_was_merely_being_handled_is_not():
    try:
        try:
            raise ProviderError("down", "provider_unavailable")
        except ProviderError:
            raise ValueError("another") from None
    except ValueError as error:
        assert error_record(error).category is None


def test_a_chain_that_bites_its_tail_ends():
    first, second = ValueError("a"), ValueError("b")
    caused(first, second, first)
    assert [link.message for link in classify_cause_chain(first)] == ["a", "b"]


def raise_deep(depth: int, secret: str) -> None:
    if depth:
        raise_deep_other(depth, secret)
    raise ValueError("at the bottom")


def raise_deep_other(depth: int, secret: str) -> None:
    raise_deep(depth - 1, secret)


def test_a_traceback_says_where_and_holds_no_values_of_variables():
    try:
        raise_deep(1, "hunter" + "2")
    except ValueError as error:
        record = error_record(error)
    assert "in raise_deep_other" in record.traceback
    assert "hunter2" not in record.traceback


def test_a_traceback_is_cut_at_its_beginning():
    try:
        raise_deep(300, "é")
    except ValueError as error:
        record = error_record(error)
    assert len(record.traceback.encode()) <= MAX_TRACEBACK_BYTES
    assert record.traceback.startswith("[...]\n")
    assert record.traceback.endswith("ValueError: at the bottom\n")


def test_a_traceback_may_be_left_out():
    assert error_record(ValueError("x"), with_traceback=False).traceback == ""


def test_a_long_message_is_cut():
    message = error_record(ValueError("x" * 100_000)).message
    assert len(message) == MAX_MESSAGE_CHARACTERS
    assert message.endswith("[...]")


def test_an_error_that_cannot_be_printed_is_still_recorded():
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert error_record(Broken()).message == "<a Broken that cannot be printed>"


def test_a_record_survives_the_journey():
    record = error_record(wrapped(ProviderError("down \ud800", "provider_unavailable")))
    assert ErrorRecord.from_json(record.to_json()) == record
