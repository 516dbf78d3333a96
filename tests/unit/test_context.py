import asyncio
import threading
from typing import Any

from orchestrator import context
from orchestrator.context import Cancellation, InstanceContext, attempting, entered
from orchestrator.identity import EnclosingInstance, FanOutKey

FILES = FanOutKey(("outer",), "files", (EnclosingInstance((), "outer", 2),))


def instance(**changes: Any) -> InstanceContext:
    facts: dict[str, Any] = {
        "run_id": "r",
        "invocation_id": "i",
        "correlation_id": "c",
        "fan_out": FILES,
        "index": 5,
        **changes,
    }
    return InstanceContext(**facts)


def test_outside_a_run_there_is_nothing_to_know():
    assert context.current_context() is None
    assert context.current_run_id() is None
    assert context.current_invocation_id() is None
    assert context.current_correlation_id() is None
    assert context.current_fan_out_index() is None
    assert context.current_item_key() is None
    assert context.idempotency_key() is None
    assert context.token() is None
    assert context.current_namespace() == ()
    assert context.current_lineage() == ()
    assert not context.is_cancelled()
    assert context.current_attempt_index() == 0


def test_an_instance_knows_where_it_is():
    with entered(instance(item_key="a.txt", token="t")):
        assert context.current_run_id() == "r"
        assert context.current_invocation_id() == "i"
        assert context.current_correlation_id() == "c"
        assert context.current_namespace() == ("outer", "files")
        assert context.current_lineage() == FILES.enclosing(5)
        assert context.current_fan_out_index() == 5
        assert context.current_item_key() == "a.txt"
        assert context.token() == "t"
    assert context.current_run_id() is None


def test_attempts_are_counted_from_0_in_a_nested_instance():
    with attempting(2), entered(instance()):
        assert context.current_attempt_index() == 0
        with attempting(1):
            assert context.current_attempt_index() == 1
        assert context.current_attempt_index() == 0


def test_the_idempotency_key_is_the_same_in_every_delivery_and_for_no_other_instance():
    def key(**changes: Any) -> str | None:
        with entered(instance(**changes)):
            return context.idempotency_key()

    first = key(token="t1", delivery=1, invocation_id="i1")
    assert key(token="t2", delivery=2, invocation_id="i2") == first
    others = [
        key(run_id="r2"),
        key(index=6),
        key(fan_out=FanOutKey(("outer",), "files", FILES.lineage, visit=1)),
        key(fan_out=FanOutKey(("outer",), "files", (EnclosingInstance((), "outer", 3),))),
        key(fan_out=None, index=None),
    ]
    assert len({first, *others}) == 6


async def test_a_thread_with_a_copied_context_knows_the_same():
    with entered(instance()):
        seen = await asyncio.to_thread(lambda: (threading.current_thread().name, context.current_fan_out_index()))
    assert seen[0] != threading.current_thread().name
    assert seen[1] == 5


def test_a_cancellation_is_seen_and_keeps_its_first_reason():
    cancellation = Cancellation()
    with entered(instance(cancellation=cancellation)):
        assert not context.is_cancelled()
        cancellation.request("lease lost")
        cancellation.request("run cancelled")
        assert context.is_cancelled()
    assert cancellation.reason == "lease lost"
