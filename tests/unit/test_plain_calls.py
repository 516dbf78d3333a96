"""How plain functions are run beside the loop."""

import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest

from orchestrator.execution.plain_calls import PlainCalls
from tests.service.worker import wait_until

place = contextvars.ContextVar("place", default="nowhere")


def thread_of(_):
    return threading.current_thread()


async def until(condition, what):
    await asyncio.to_thread(wait_until, condition, what=what)


class Held:
    """A plain function that runs until it is let go."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, argument):
        self.begun.release()
        self.go.wait(10)
        return argument

    async def has_begun(self):
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)


@pytest.fixture
def held():
    made = Held()
    yield made
    made.go.set()


async def test_a_function_runs_in_a_thread_of_its_own_with_the_context_of_the_caller():
    place.set("here")
    assert await PlainCalls().call(lambda argument: (argument, place.get()), 7) == (7, "here")
    thread = await PlainCalls().call(thread_of, None)
    assert thread is not threading.current_thread()
    assert thread.daemon


async def test_a_thread_is_used_again():
    calls = PlainCalls()
    first = await calls.call(thread_of, None)
    await until(lambda: calls._idle == 1, "it is idle")
    assert await calls.call(thread_of, None) is first


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_whatever_is_raised_is_raised_where_it_is_awaited(error):
    def fail(_):
        raise error

    calls = PlainCalls()
    with pytest.raises(type(error)):
        await calls.call(fail, None)
    assert await calls.call(str, 1) == "1"


async def test_a_stop_iteration_ends_the_await_too():
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await asyncio.wait_for(PlainCalls().call(next, iter(())), 10)


async def test_a_cancelled_await_leaves_the_function_running_and_says_so(held):
    calls = PlainCalls()
    waiting = asyncio.create_task(calls.call(held, None))
    await held.has_begun()
    assert calls.abandoned() == []
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert calls.abandoned() == ["tests.unit.test_plain_calls:Held"]
    held.go.set()
    await until(lambda: calls.abandoned() == [], "the function ends")


async def test_a_call_that_has_not_begun_when_it_is_cancelled_never_begins(held):
    calls = PlainCalls(most=1)
    made: list[int] = []
    first = asyncio.create_task(calls.call(held, 1))
    await held.has_begun()
    second = asyncio.create_task(calls.call(made.append, 2))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    held.go.set()
    assert await first == 1
    assert await calls.call(str, 3) == "3"
    assert (made, calls.abandoned()) == ([], [])


async def test_no_more_run_at_once_than_may_and_the_others_follow(held):
    calls = PlainCalls(most=2)
    waiting = [asyncio.create_task(calls.call(held, number)) for number in range(5)]
    await held.has_begun()
    await held.has_begun()
    assert not held.begun.acquire(timeout=0.05)
    held.go.set()
    assert await asyncio.gather(*waiting) == list(range(5))


async def test_an_abandoned_call_takes_no_place(held):
    calls = PlainCalls(most=1)
    first = asyncio.create_task(calls.call(held, 1))
    await held.has_begun()
    second = asyncio.create_task(calls.call(str, 2))
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.wait_for(second, 10) == "2"
    held.go.set()
    await until(lambda: calls._threads == 1, "the thread too many ends")


async def test_few_threads_stay_idle(held):
    calls = PlainCalls(most=8, most_idle=2)
    waiting = [asyncio.create_task(calls.call(held, number)) for number in range(8)]
    for _ in waiting:
        await held.has_begun()
    held.go.set()
    await asyncio.gather(*waiting)
    await until(lambda: calls._threads == calls._idle == 2, "the others end")


def test_a_process_ends_although_a_function_still_runs():
    code = (
        "import asyncio, threading\n"
        "from orchestrator.execution.function import run_function\n"
        "async def main():\n"
        "    try:\n"
        "        await asyncio.wait_for(run_function(lambda _: threading.Event().wait(), None), 0.05)\n"
        "    except TimeoutError:\n"
        "        print('left')\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert ended.stdout == "left\n"
