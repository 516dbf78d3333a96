"""What an instance puts out that has its process to itself: by child processes, C code and threads too."""

import asyncio
import errno
import io
import logging
import multiprocessing
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from orchestrator.capture import pipe, streams
from orchestrator.capture.capture import Capture, CaptureOptions
from orchestrator.capture.line import LogStream, left_out
from orchestrator.capture.streams import capturing
from orchestrator.capture.tap import Tap
from orchestrator.capture.threads import busy_threads
from tests.service.worker import wait_until

OUT, ERR, LOG = LogStream
say = print


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """Descriptors 1 and 2, and the streams on them, lead to a file meanwhile."""
    file = folder / "written"
    saved = os.dup(1), os.dup(2)
    with ExitStack() as stack:
        target = stack.enter_context(file.open("ab", buffering=0))
        for number, kept in zip((1, 2), saved, strict=True):
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            os.dup2(target.fileno(), number)
        for number, redirect in ((1, redirect_stdout), (2, redirect_stderr)):
            stream = io.TextIOWrapper(io.FileIO(number, "w", closefd=False), write_through=True)
            stack.enter_context(redirect(stream))
        yield file


def taker() -> Capture:
    return Capture(CaptureOptions(level=logging.INFO))


def texts(taken, stream: LogStream) -> list[str]:
    return [line.text for line in taken if line.stream is stream]


def test_child_processes_and_what_writes_to_the_descriptor_are_taken_in_order(tmp_path):
    with written(tmp_path) as file:
        capture = taker()
        with capturing(capture, is_alone=True):
            say("first")
            subprocess.run(["/bin/sh", "-c", "echo second; echo wrong >&2"], check=True)
            say("third")
            os.write(1, b"fourth \xff\n")
        taken = capture.take(is_over=True)
        assert texts(taken, OUT) == ["first", "second", "third", "fourth \ufffd"]
        assert texts(taken, ERR) == ["wrong"]
        assert sorted(file.read_bytes().splitlines()) == sorted(
            [b"first", b"second", b"wrong", b"third", b"fourth \xff"]
        )


def test_the_descriptors_are_as_before(tmp_path):
    with written(tmp_path):
        before = [os.fstat(number).st_ino for number in (1, 2)]
        open_before = set(Path("/proc/self/fd").iterdir())
        for _ in range(3):
            with capturing(taker(), is_alone=True):
                assert os.fstat(1).st_ino != before[0]
        assert [os.fstat(number).st_ino for number in (1, 2)] == before
        # What leads to where each descriptor leads stays open for the next instance, and what waits for all pipes.
        assert len(set(Path("/proc/self/fd").iterdir()) - open_before) <= 3


def test_what_was_printed_before_and_is_printed_after_is_not_taken(tmp_path):
    with written(tmp_path) as file:
        capture = taker()
        os.write(1, b"before\n")
        with capturing(capture, is_alone=True):
            say("within")
        say("after")
        assert texts(capture.take(is_over=True), OUT) == ["within"]
        assert file.read_text().split() == ["before", "within", "after"]


def test_a_record_that_a_handler_prints_is_taken_once(tmp_path, monkeypatch):
    with written(tmp_path) as file:
        handler = logging.StreamHandler(sys.stderr)
        monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
        capture = taker()
        with capturing(capture, is_alone=True):
            logging.getLogger("tests.capture").warning("careful")
        taken = capture.take(is_over=True)
        assert (texts(taken, LOG), texts(taken, ERR)) == (["careful"], [])
        assert file.read_text() == "careful\n"
        assert handler.stream is sys.stderr


def test_threads_of_the_user_are_taken_too(tmp_path):
    with written(tmp_path):
        capture = taker()
        with capturing(capture, is_alone=True):
            thread = threading.Thread(target=say, args=("of a thread",))
            thread.start()
            thread.join()
        assert texts(capture.take(is_over=True), OUT) == ["of a thread"]


def test_a_thread_that_serves_the_whole_process_is_not(tmp_path):
    with written(tmp_path) as file:
        capture = taker()
        with capturing(capture, is_alone=True):
            thread = threading.Thread(target=say, args=("of a beat",), name="rollforward-heartbeat")
            thread.start()
            thread.join()
        assert (texts(capture.take(is_over=True), OUT), file.read_text()) == ([], "of a beat\n")


def test_a_forked_child_of_the_user_is_taken(tmp_path):
    with written(tmp_path) as file:
        capture = taker()
        with capturing(capture, is_alone=True):
            child = multiprocessing.get_context("fork").Process(target=say, args=("of a child",))
            child.start()
            child.join()
        assert texts(capture.take(is_over=True), OUT) == ["of a child"]
        assert file.read_text() == "of a child\n"


def test_what_a_forked_child_of_the_user_logs_is_taken_as_it_is_printed(tmp_path, monkeypatch):
    with written(tmp_path) as file:
        monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(sys.stderr)])
        capture = taker()
        with capturing(capture, is_alone=True):
            child = multiprocessing.get_context("fork").Process(target=logging.error, args=("of a child",))
            child.start()
            child.join()
        assert texts(capture.take(is_over=True), ERR) == ["of a child"]
        assert file.read_text() == "of a child\n"


def test_a_child_without_end_is_passed_on_as_it_writes_and_none_of_it_is_held(tmp_path):
    with written(tmp_path) as file:
        capture = taker()
        with capturing(capture, is_alone=True):
            subprocess.run(["/bin/sh", "-c", "echo first; yes | head -c 8000000; echo last"], check=True)
            # Nobody has asked for anything yet.
            assert file.stat().st_size > 8_000_000 - 2 * pipe.PIPE_BYTES
        lines = capture.take(is_over=True)
        assert file.stat().st_size == len("first\nlast\n") + 8_000_000
        assert (texts(lines, OUT)[0], texts(lines, OUT)[-1]) == ("first", "last")
        assert sum(line.byte_count for line in lines) <= capture.options.max_bytes
        assert [line.text for line in lines if line.is_cut] == [left_out(4_000_009 - kept_bytes(lines))]


def kept_bytes(lines) -> int:
    return sum(line.byte_count for line in lines if not line.is_cut)


def open_pipes() -> set[str]:
    found = set[str]()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(one.readlink()))
    return {name for name in found if name.startswith("pipe:")}


async def test_a_child_without_end_holds_up_neither_the_loop_nor_the_end_of_its_instance(tmp_path):
    with written(tmp_path) as file:
        before = open_pipes()
        capture = taker()
        with capturing(capture, is_alone=True):
            child = await asyncio.create_subprocess_exec("yes")
            await asyncio.to_thread(wait_until, capture.take, what="it is heard")
        child.kill()
        await child.wait()
        # What is passed on later would go to the file of the test that follows.
        await asyncio.to_thread(wait_until, lambda: open_pipes() <= before, what="the rest is passed on")
        os.truncate(file, 0)


def test_who_opens_the_descriptor_by_its_path_empties_nothing(tmp_path):
    with written(tmp_path) as file:
        capture = taker()
        with capturing(capture, is_alone=True):
            script = "echo one; echo two > /dev/stdout; echo wrong > /dev/stderr; echo three"
            subprocess.run(["/bin/sh", "-c", script], check=True)
        lines = capture.take(is_over=True)
        assert (texts(lines, OUT), texts(lines, ERR)) == (["one", "two", "three"], ["wrong"])
        assert sorted(file.read_text().split()) == ["one", "three", "two", "wrong"]


def test_an_instance_that_closes_its_descriptor_gets_it_back(tmp_path):
    with written(tmp_path) as file:
        capture = taker()
        with capturing(capture, is_alone=True):
            os.write(1, b"said\n")
            os.close(1)
        os.write(1, b"after\n")
        assert (texts(capture.take(is_over=True), OUT), file.read_text()) == (["said"], "said\nafter\n")


def test_an_instance_nested_in_it_takes_its_own_and_nothing_twice(tmp_path):
    with written(tmp_path) as file:
        outer, inner = taker(), taker()
        with capturing(outer, is_alone=True):
            say("outer")
            with capturing(inner, is_alone=False):
                say("inner")
        assert texts(outer.take(is_over=True), OUT) == ["outer"]
        assert texts(inner.take(is_over=True), OUT) == ["inner"]
        assert file.read_text().split() == ["outer", "inner"]


def test_what_a_process_left_behind_writes_is_passed_on_and_not_taken_for_what_comes_next(tmp_path):
    with written(tmp_path) as file:
        with capturing(taker(), is_alone=True):
            behind = subprocess.Popen(["/bin/sh", "-c", "read go; echo of another"], stdin=subprocess.PIPE)
        capture = taker()
        with capturing(capture, is_alone=True):
            behind.communicate(b"go\n")
            wait_until(lambda: "of another" in file.read_text(), what="it is passed on")
            say("own")
        assert (texts(capture.take(is_over=True), OUT), file.read_text()) == (["own"], "of another\nown\n")


def test_what_a_thread_left_behind_prints_is_not_taken_for_what_comes_next(tmp_path):
    with written(tmp_path) as file:
        go = threading.Event()
        with capturing(taker(), is_alone=True):
            behind = threading.Thread(target=lambda: (go.wait(), say("of another")))
            behind.start()
        capture = taker()
        with capturing(capture, is_alone=True):
            go.set()
            behind.join()
            say("own")
        assert (texts(capture.take(is_over=True), OUT), file.read_text()) == (["own"], "of another\nown\n")


def test_a_thread_of_a_pool_that_had_nothing_to_do_is_taken(tmp_path):
    with written(tmp_path), ThreadPoolExecutor(1) as pool:
        for text in ("first", "second"):
            capture = taker()
            with capturing(capture, is_alone=True):
                pool.submit(say, text).result()
            assert texts(capture.take(is_over=True), OUT) == [text]
            wait_until(lambda: not set(pool._threads) & set(busy_threads()), what="it rests")


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside others"])
def test_who_writes_waits_for_no_redactor(tmp_path, monkeypatch, is_alone):
    written_all = threading.Event()
    seen: list[bool] = []

    def waiting(text: str) -> str:
        seen.append(written_all.wait(2))
        return text

    monkeypatch.setattr("orchestrator.redaction._redactors", [waiting])
    with written(tmp_path):
        capture = taker()
        with capturing(capture, is_alone=is_alone):
            os.write(1, b"of C code\n")
            say("printed")
            logging.getLogger("tests.capture").warning("logged")
            written_all.set()
        told = [line.text for line in capture.take(is_over=True)]
        assert (told, set(seen)) == (["of C code"] * is_alone + ["printed", "logged"], {True})


def test_what_one_thread_waits_for_as_it_logs_may_log_too(tmp_path):
    with written(tmp_path):
        capture, logger = taker(), logging.getLogger("tests.capture")
        with capturing(capture, is_alone=True):
            other = threading.Thread(target=logger.warning, args=("of another",), name="rollforward-other", daemon=True)

            def wait() -> None:
                other.start()
                other.join(5)

            capture.catch_up = wait
            logger.warning("of one")
            assert not other.is_alive()
        assert texts(capture.take(is_over=True), LOG) == ["of one"]


@contextmanager
def piped(take: pipe.Take) -> Iterator[tuple[pipe.Pipe, int]]:
    """A pipe that leads nowhere, and the descriptor that leads into it."""
    with ExitStack() as stack:
        number, past = (os.open(os.devnull, os.O_WRONLY) for _ in range(2))
        for one in (number, past):
            stack.callback(os.close, one)
        tapped = pipe.Pipe(number, past, take)
        yield tapped, number
        tapped.leave()


def test_who_writes_does_not_wait_for_ever_for_one_who_reads(monkeypatch):
    monkeypatch.setattr(pipe, "PATIENCE_SECONDS", 0.05)
    reading, go, taken = threading.Event(), threading.Event(), list[bytes]()

    def take(piece: bytes) -> None:
        taken.append(piece)
        reading.set()
        # As a finalizer does that wants a lock which is held by the one who writes.
        go.wait(10)

    with piped(take) as (tapped, number):
        os.write(number, b"one")
        assert reading.wait(5)
        for _ in range(3):
            tapped.catch_up()
        assert not go.is_set()
        os.write(number, b"two")
        go.set()
        wait_until(lambda: taken == [b"one", b"two"], what="all is read")


class Ready:
    """Says that there is something to read, also where another reader has taken it meanwhile."""

    POLLIN = select.POLLIN

    def poll(self, *_: object) -> "Ready":
        return self

    def register(self, *_: object) -> None:
        pass


def test_what_a_finalizer_has_read_meanwhile_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(pipe, "select", Ready())
    taken: list[bytes] = []
    with piped(taken.append) as (tapped, number):
        os.write(number, b"all")
        asked = threading.Thread(target=tapped.pump, daemon=True)
        asked.start()
        asked.join(5)
        assert (asked.is_alive(), taken) == (False, [b"all"])
        assert os.get_blocking(number)


def test_where_there_is_none_for_the_second_descriptor_the_first_takes_none_for_good(monkeypatch):
    def only_one(number: int, like: object) -> Tap:
        if number == 1:
            return Tap(number, like)
        raise OSError(errno.EMFILE, "too many open files")

    streams.taps.cache_clear()
    monkeypatch.setattr(streams, "Tap", only_one)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="too many"):
        streams.taps(os.getpid())
    assert set(Path("/proc/self/fd").iterdir()) == before
    streams.taps.cache_clear()


def test_without_a_descriptor_left_it_is_as_beside_others(tmp_path, monkeypatch):
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    streams.taps.cache_clear()
    monkeypatch.setattr(streams, "Tap", none_left)
    with written(tmp_path) as file:
        capture = taker()
        with capturing(capture, is_alone=True):
            say("printed")
            os.write(1, b"written\n")
        assert texts(capture.take(is_over=True), OUT) == ["printed"]
        assert file.read_text().split() == ["printed", "written"]
    streams.taps.cache_clear()
