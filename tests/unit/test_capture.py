"""What is taken of an instance's output: bounded, whole lines, without secrets."""

import asyncio
import contextvars
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest

from orchestrator.capture.capture import Capture, CaptureOptions, captured_by, current_capture, uncaptured
from orchestrator.capture.line import LogStream
from orchestrator.capture.logger import instance_logger
from orchestrator.capture.streams import capturing
from orchestrator.capture.text import TextOfPieces
from orchestrator.redaction import add_redactor

OUT, ERR, LOG = LogStream
say = print


def capture(max_bytes: int = 65_536, level: int = logging.INFO) -> Capture:
    return Capture(CaptureOptions(max_bytes, level))


def texts(taken, stream=None) -> list[str]:
    return [line.text for line in taken if stream in (None, line.stream)]


@contextmanager
def streams() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """The two streams of this process, as something that can be read."""
    own = io.StringIO(), io.StringIO()
    with redirect_stdout(own[0]), redirect_stderr(own[1]):
        yield own


@contextmanager
def root_logger(*handlers: logging.Handler) -> Iterator[logging.Logger]:
    """The root logger at WARNING, with these handlers only."""
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    root.handlers[:] = handlers
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers[:] = kept
        root.setLevel(level)


def test_lines_are_whole_however_they_were_written():
    taker = capture()
    for piece in ("a", "b\nc", "\n", "d"):
        taker.write(OUT, piece)
    assert texts(taker.take()) == ["ab", "c"]
    assert texts(taker.take(is_over=True)) == ["d"]


def test_what_is_printed_still_goes_where_it_went():
    with streams() as own:
        taker = capture()
        with capturing(taker, is_alone=False):
            say("out")
            say("err", file=sys.stderr)
        assert (own[0].getvalue(), own[1].getvalue()) == ("out\n", "err\n")
        taken = taker.take(is_over=True)
        assert (texts(taken, OUT), texts(taken, ERR)) == (["out"], ["err"])


def test_the_streams_and_the_root_logger_are_as_before_once_nothing_is_captured():
    kept = logging.StreamHandler(io.StringIO())
    with streams() as own, root_logger(kept) as root:
        with capturing(capture(), is_alone=False), capturing(capture(), is_alone=False):
            assert sys.stdout is not own[0]
        assert (sys.stdout, sys.stderr) == own
        assert (root.handlers, root.level, kept.filters, kept.level) == ([kept], logging.WARNING, [], 0)


def test_streams_are_replaced_once_for_all_instances():
    with streams() as own:
        first, second = capture(), capture()
        with capturing(first, is_alone=False):
            replaced = sys.stdout
            with capturing(second, is_alone=False):
                assert sys.stdout is replaced
                say("once")
        assert (texts(first.take(is_over=True)), texts(second.take(is_over=True))) == ([], ["once"])
        assert own[0].getvalue() == "once\n"


def test_a_stream_that_somebody_else_has_replaced_stays():
    with streams():
        other = io.StringIO()
        with capturing(capture(), is_alone=False):
            sys.stdout = other
        assert sys.stdout is other


async def test_tasks_beside_each_other_do_not_mix():
    with streams():

        async def instance(name: str) -> list[str]:
            taker = capture()
            with capturing(taker, is_alone=False):
                for number in range(3):
                    say(name, number)
                    await asyncio.sleep(0)
            return texts(taker.take(is_over=True))

        told = await asyncio.gather(instance("a"), instance("b"))
        assert list(told) == [["a 0", "a 1", "a 2"], ["b 0", "b 1", "b 2"]]


def test_a_plain_function_in_a_thread_is_taken_with_its_context_and_others_pass_by():
    with streams() as own:
        taker = capture()
        with capturing(taker, is_alone=False):
            inside = threading.Thread(target=contextvars.copy_context().run, args=(say, "own"))
            other = threading.Thread(target=contextvars.Context().run, args=(say, "other"))
            for thread in (inside, other):
                thread.start()
                thread.join()
        assert texts(taker.take(is_over=True)) == ["own"]
        assert own[0].getvalue() == "own\nother\n"


def test_records_are_taken_from_their_level_on_and_other_handlers_get_what_they_got():
    heard = io.StringIO()
    with streams(), root_logger(logging.StreamHandler(heard)):
        own = logging.getLogger("tests.capture.own")
        own.setLevel(logging.DEBUG)
        taker = capture(level=logging.INFO)
        with capturing(taker, is_alone=False):
            logging.getLogger("tests.capture").debug("too low")
            logging.getLogger("tests.capture").info("told %d", 7)
            logging.getLogger("tests.capture").warning("heard")
            own.debug("of its own level")
        taken = taker.take(is_over=True)
        assert [(line.level, line.logger, line.text) for line in taken] == [
            ("INFO", "tests.capture", "told 7"),
            ("WARNING", "tests.capture", "heard"),
        ]
        assert heard.getvalue().splitlines() == ["heard", "of its own level"]
        own.setLevel(logging.NOTSET)


def test_a_warning_is_printed_also_where_no_handler_is_set_up():
    with streams() as own, root_logger():
        taker = capture()
        with capturing(taker, is_alone=False):
            logging.getLogger("tests.capture").warning("careful")
        assert own[1].getvalue() == "careful\n"
        assert [(line.stream, line.text) for line in taker.take(is_over=True)] == [(LOG, "careful")]


def test_a_record_has_its_traceback_and_one_that_cannot_be_formatted_is_kept_as_it_is():
    taker = capture()
    try:
        raise ValueError("deep")
    except ValueError as error:
        raised = error
    made = logging.getLogger().makeRecord
    taker.log(made("x", logging.ERROR, "", 0, "failed", (), (ValueError, raised, raised.__traceback__)))
    taker.log(made("x", logging.ERROR, "", 0, "%d", ("seven",), None))
    first, second = texts(taker.take(is_over=True))
    assert first.startswith("failed\nTraceback")
    assert first.endswith("ValueError: deep")
    assert second == "'%d' ('seven',)"


def test_too_much_is_cut_with_its_head_and_its_tail_kept():
    taker = capture(max_bytes=4096)
    for number in range(1000):
        taker.write(OUT, f"line {number}\n")
    head = taker.take()
    rest = taker.take(is_over=True)
    assert texts(head)[:2] == ["line 0", "line 1"]
    assert texts(rest)[-1] == "line 999"
    marks = [line for line in rest if line.is_cut]
    shown = sum(line.byte_count for line in (*head, *rest) if not line.is_cut)
    whole = sum(len(f"line {number}") for number in range(1000))
    assert [line.text for line in marks] == [f"... {whole - shown} bytes left out ..."]
    assert 2048 < sum(line.byte_count + 32 for line in (*head, *rest)) < 4096 + 100


def test_lines_stay_in_order_where_a_long_one_does_not_fit_into_the_head():
    taker = capture(max_bytes=4096)
    for text in ("a" * 900, "b" * 900, "c" * 900, "d"):
        taker.write(OUT, f"{text}\n")
    assert [text[0] for text in texts(taker.take(is_over=True))] == ["a", "b", "c", "d"]


def test_empty_lines_are_bounded_too():
    taker = capture(max_bytes=4096)
    taker.write(OUT, "\n" * 100_000)
    assert len(taker.take(is_over=True)) <= 4096 / 32


def test_a_long_line_is_cut_in_its_middle():
    taker = capture(max_bytes=4096)
    taker.write(OUT, "a" + "x" * 10_000 + "z\n")
    (line,) = taker.take(is_over=True)
    assert line.is_cut
    assert (line.text[0], line.text[-1], line.byte_count <= 1024) == ("a", "z", True)
    assert "bytes left out" in line.text


def test_a_line_without_end_takes_no_memory_without_bound():
    taker = capture(max_bytes=4096)
    for _ in range(100):
        taker.write(OUT, "x" * 10_000)
    assert sum(line.byte_count for line in taker.take(is_over=True)) <= 4096


def test_bytes_that_are_no_text_and_characters_that_no_store_keeps_are_replaced():
    taker = capture()
    taker.write(OUT, b"caf\xc3")
    taker.write(OUT, b"\xa9 \xff\x00\n")
    taker.write(ERR, "\ud800\n")
    assert texts(taker.take()) == ["caf\u00e9 \ufffd\ufffd", "?"]


def test_bytes_written_beneath_a_stream_are_taken(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, write_through=True))
    taker = capture()
    with capturing(taker, is_alone=False):
        sys.stdout.buffer.write(b"raw\n")
        sys.stdout.flush()
    assert (texts(taker.take()), raw.getvalue()) == (["raw"], b"raw\n")


KEY = ["-----BEGIN RSA PRIVATE KEY-----", *("MIIEow" + "A" * 58 for _ in range(20)), "-----END RSA PRIVATE KEY-----"]


@pytest.mark.parametrize("pieces", [["\n".join(KEY) + "\n"], [f"{line}\n" for line in KEY]], ids=["at once", "by line"])
def test_a_key_of_many_lines_is_starred_however_it_comes(pieces):
    taker = capture()
    for piece in ("before\n", *pieces, "after\n"):
        taker.write(OUT, piece)
    told = texts(taker.take(is_over=True))
    assert (told[0], told[-1]) == ("before", "after")
    assert "MIIEow" not in "\n".join(told)


def test_of_what_is_left_out_no_secret_remains():
    taker = capture(max_bytes=1024)
    for text in ("x" * 600, *KEY[:-1], *KEY[1:], "password=hunter2"):
        taker.write(OUT, f"{text}\n")
    told = texts(taker.take(is_over=True))
    assert told[-1] == "password=***"
    assert "MIIEow" not in "\n".join(told)


def test_what_is_written_at_once_is_bounded_too():
    taker = capture(max_bytes=4096)
    taker.write(OUT, "\n".join(["first", *("x" * 99 for _ in range(100_000)), *KEY, "last"]) + "\n")
    told = texts(taker.take(is_over=True))
    assert (told[0], told[-1]) == ("first", "last")
    assert "MIIEow" not in "\n".join(told)
    assert sum(map(len, told)) <= 4096


def test_secrets_in_pieces_and_in_records_are_starred():
    taker = capture()
    taker.write(OUT, "password=")
    taker.write(OUT, "hunter2 and more\n")
    taker.log(logging.getLogger().makeRecord("x", logging.INFO, "", 0, "api_key=%s", ("abcdef123456",), None))
    taker.fail("Traceback: token https://me:pw1234@host/")
    assert all(
        secret not in text for text in texts(taker.take(is_over=True)) for secret in ("hunter2", "abcdef", "pw1234")
    )


def test_a_redactor_that_prints_neither_hangs_nor_is_taken(monkeypatch):
    with streams():
        monkeypatch.setattr("orchestrator.redaction._redactors", [])

        def talkative(text: str) -> str:
            say("redacting")
            return text

        add_redactor(talkative)
        taker = capture()
        with capturing(taker, is_alone=False):
            say("own")
        assert texts(taker.take(is_over=True)) == ["own"]


def test_who_writes_waits_for_no_other_who_does_and_order_is_kept(monkeypatch):
    feeding, go, feed = threading.Event(), threading.Event(), TextOfPieces.feed

    def slow(text: TextOfPieces, piece: str | bytes) -> str | None:
        if piece == "one\n":
            feeding.set()
            go.wait(2)
        return feed(text, piece)

    monkeypatch.setattr(TextOfPieces, "feed", slow)
    taker = capture()
    other = threading.Thread(target=taker.write, args=(OUT, "one\n"))
    other.start()
    assert feeding.wait(5)
    taker.write(OUT, "two\n")
    assert other.is_alive()
    go.set()
    other.join()
    taker.write(OUT, "three\n")
    assert texts(taker.take()) == ["one", "two", "three"]


def test_what_a_redactor_makes_longer_is_bounded_too(monkeypatch):
    monkeypatch.setattr("orchestrator.redaction._redactors", [lambda text: text.replace("-", "-" * 50)])
    taker = capture(max_bytes=4096)
    for number in range(200):
        taker.write(OUT, f"{number}-\n")
    head, rest = taker.take(), taker.take(is_over=True)
    told = [line for line in (*head, *rest) if not line.is_cut]
    assert sum(line.byte_count + 32 for line in told) <= 4096
    numbers = [int(line.text.split("-")[0]) for line in told]
    assert (numbers[0], numbers[-1], numbers) == (0, 199, sorted(numbers))
    assert [line.is_cut for line in rest][:2] == [True, False]


def test_what_is_begun_while_output_passes_by_is_taken():
    taker = capture()
    with captured_by(taker):
        with uncaptured():
            begun = contextvars.copy_context()
            assert current_capture() is None
        assert begun.run(current_capture) is taker


def test_one_that_was_interrupted_as_output_passed_by_disturbs_none_that_follows():
    taker = capture()
    uncaptured().__enter__()
    with captured_by(taker):
        assert current_capture() is taker


def test_what_runs_outside_has_no_capture():
    taker = capture()
    with captured_by(taker):
        assert current_capture() is taker
    assert current_capture() is None


def test_the_logger_of_an_instance_outside_any_run_is_a_plain_one():
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    handler.setFormatter(logging.Formatter("%(message)s %(own)s"))
    with root_logger(handler):
        instance_logger().warning("hello", extra={"own": 1})
    assert heard.getvalue() == "hello 1\n"
