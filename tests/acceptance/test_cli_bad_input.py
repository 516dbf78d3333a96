"""Bad input gets one sentence that says what to do, its exit code, no traceback, and leaves no half-made run."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.service.cli import CommandLine
from tests.service.forking import Ended

GRAPH = "tests.graph.tiny:graph"
NOWHERE = "redis://127.0.0.1:1/0"


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return name


def assert_one_sentence(ended: Ended, *said: str) -> None:
    (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("rollforward: ")]
    assert "Traceback" not in ended.stderr
    for part in said:
        assert part in sentence
    assert ended.stdout == ""


def assert_no_run(cli: CommandLine) -> None:
    file = cli.folder / ".rollforward" / "state.db"
    if file.exists():
        with closing(sqlite3.connect(file)) as database:
            assert database.execute("SELECT run_id FROM rollforward_runs").fetchall() == []
    assert cli.processes() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "write MODULE:GRAPH"),
        (["no_such_module:graph"], "no module 'no_such_module'"),
        (["tests.graph.no_such:graph"], "no module 'tests.graph.no_such'"),
        (["tests.graph.tiny:grapf"], "tests.graph.tiny:grapf does not exist; the module has piece, graph"),
        (["tests.graph.tiny:work"], "is not a compiled graph"),
        ([GRAPH, "--input", "missing.json"], "missing.json cannot be read: no such file"),
        ([GRAPH, "--items", "missing.txt", "--into", "numbers"], "missing.txt cannot be read"),
        ([GRAPH, "--set", "numberz=[1]"], "Whole has no field 'numberz'; it has numbers, act"),
        ([GRAPH, "--set", "numbers"], "write --set field=json"),
        ([GRAPH, "--set", "act=double"], "is no JSON"),
        ([GRAPH, "--set", 'numbers=["x"]'], "field 'numbers.0' is refused"),
        ([GRAPH, "--meta", "tenant"], "write --meta name=value"),
        ([GRAPH, "--meta", "step=1"], "the metadata 'step' would be taken for rollforward's own"),
        ([GRAPH, "--run-id", "a b"], "cannot be a run id"),
        ([GRAPH, "--detach"], "--detach needs a deployment: set ROLLFORWARD_REDIS_URL"),
        ([GRAPH, "--executor", "cloud"], "'cloud' is not one of"),
    ],
)
def test_bad_arguments_of_run(cli, arguments, said):
    ended = cli.run("run", *arguments)
    assert ended.code == 2
    assert_one_sentence(ended, said)
    assert_no_run(cli)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("items.jsonl", '1\n2\n{"a":\n', "items.jsonl, line 3: malformed JSON"),
        ("items.jsonl", '1\n\n"x"\n', "items.jsonl, line 3: item 1 is refused"),
        ("items.csv", "a,b\n1,2\n1\n", "items.csv, line 3: the row does not have the header's 2 columns"),
        ("items.txt", "1\ntwo\n", "items.txt, line 2: item 1 is refused"),
    ],
)
def test_a_bad_item_is_named_with_its_line(cli, name, text, said):
    ended = cli.run("run", GRAPH, "--items", write(cli.folder, name, text), "--into", "numbers")
    assert ended.code == 2
    assert_one_sentence(ended, said)
    assert_no_run(cli)


STRICT = """
from typing import Annotated
from pydantic import Field
from rollforward import END, GraphBuilder, State

class Small(State):
    number: Annotated[int, Field(le=9)] = 0

class Numbers(State):
    numbers: list[int] = []
    results: list[int] = []

async def same(state):
    return {}

small = GraphBuilder(Small).add_node("same", same).set_entry("same").add_edge("same", END).compile()
graph = GraphBuilder(Numbers).add_fan_out_node(
    "small", subgraph=small, items_field="numbers", item_field="number", collect_field="number", target_field="results",
    key=lambda number: 1 / (number - 7),
).set_entry("small").add_edge("small", END).compile()
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "numbers=[1, 2, 10]"], ["item 2: ", "does not fit Small: number"]),
        (["--items", "items.txt", "--into", "numbers"], ["items.txt, line 3: item 2: ", "does not fit Small: number"]),
        (
            ["--items", "blank.jsonl", "--into", "numbers"],
            ["blank.jsonl, line 3: item 1: ", "does not fit Small: number"],
        ),
    ],
)
@pytest.mark.parametrize("executor", ["celery", "local"])
def test_an_item_that_its_instance_refuses_is_named_and_no_run_is_made(cli, given, said, executor):
    write(cli.folder, "strict.py", STRICT)
    write(cli.folder, "items.txt", "1\n2\n10\n")
    write(cli.folder, "blank.jsonl", "1\n\n10\n")
    ended = cli.run("run", "strict:graph", "--executor", executor, *given)
    assert ended.code == 2
    assert_one_sentence(ended, *said)
    assert_no_run(cli)


def test_an_item_that_is_too_large_is_named_and_no_run_is_made(cli):
    small = CommandLine(cli.folder, {"ROLLFORWARD_MAX_ITEM_BYTES": "30"}, cli.mark)
    items = write(cli.folder, "items.txt", "1\n1000000000000000000000000000000\n")
    ended = small.run("run", GRAPH, "--items", items, "--into", "numbers")
    assert ended.code == 2
    assert_one_sentence(ended, "items.txt, line 2: item 1: this item has ", "ROLLFORWARD_MAX_ITEM_BYTES")
    assert_no_run(cli)


def test_a_function_that_fails_to_name_an_item_makes_no_run(cli):
    write(cli.folder, "strict.py", STRICT)
    ended = cli.run("run", "strict:graph", "--set", "numbers=[7]")
    assert ended.code == 1
    assert_one_sentence(ended, "node 'small' failed", "division by zero")
    assert_no_run(cli)


def test_items_need_a_field_to_go_into(cli):
    ended = cli.run("run", GRAPH, "--items", write(cli.folder, "items.txt", "1\n"))
    assert ended.code == 2
    assert_one_sentence(ended, "--items needs --into FIELD")


def test_a_field_to_go_into_needs_items(cli):
    ended = cli.run("run", GRAPH, "--into", "numbers")
    assert ended.code == 2
    assert_one_sentence(ended, "--into numbers needs --items FILE")
    assert_no_run(cli)


@pytest.mark.parametrize("name", ["items.txt", "items.jsonl", "items.csv"])
def test_a_file_without_items_is_refused_where_the_graph_needs_one_and_no_run_is_made(cli, name):
    ended = cli.run("run", GRAPH, "--items", write(cli.folder, name, ""), "--into", "numbers")
    assert ended.code == 2
    assert_one_sentence(ended, f"{name} has no items, and node 'pieces' needs at least one")
    assert_no_run(cli)


def test_a_file_without_items_is_fine_where_the_graph_needs_none(cli):
    write(cli.folder, "strict.py", STRICT.replace("key=", 'on_empty="noop", key='))
    items = write(cli.folder, "items.txt", "")
    ended = cli.ok("run", "strict:graph", "--executor", "local", "--items", items, "--into", "numbers", "-o", "json")
    assert ended.document["status"] == "succeeded"


def test_input_that_is_no_object_is_refused(cli):
    ended = cli.run("run", GRAPH, "--input", write(cli.folder, "input.json", "[1]"))
    assert ended.code == 2
    assert_one_sentence(ended, "input.json holds no JSON object")


def test_a_module_that_fails_to_import_is_named_with_the_line(cli):
    write(cli.folder, "broken_graph.py", "x = 1\nraise RuntimeError('no licence')\n")
    ended = cli.run("run", "broken_graph:graph")
    assert ended.code == 2
    assert_one_sentence(ended, "'broken_graph' fails to import", "no licence", "broken_graph.py, line 2")


def test_a_module_that_lacks_another_is_not_called_missing(cli):
    write(cli.folder, "needy_graph.py", "import no_such_library\n")
    ended = cli.run("run", "needy_graph:graph")
    assert_one_sentence(ended, "'needy_graph' fails to import", "no_such_library")


def test_verbose_shows_the_traceback(cli):
    ended = cli.run("run", "no_such_module:graph", "-v")
    assert ended.code == 2
    assert "Traceback" in ended.stderr


def test_an_unreachable_redis_is_said(cli):
    away = CommandLine(cli.folder, {"ROLLFORWARD_REDIS_URL": NOWHERE}, cli.mark)
    ended = away.run("run", GRAPH, "--set", "numbers=[1]")
    assert ended.code == 69
    assert_one_sentence(ended, "127.0.0.1:1")
    assert_no_run(cli)


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://x", "redis:6379", "redis://host:port/0", "redis://host:99999", "me:hush@host"]
)
@pytest.mark.parametrize("verb", [("run", GRAPH, "--set", "numbers=[1]"), ("worker",)])
def test_what_is_no_url_of_a_redis_is_refused_with_what_one_looks_like(cli, url, verb):
    ended = CommandLine(cli.folder, {"ROLLFORWARD_REDIS_URL": url}, cli.mark).run(*verb)
    assert ended.code == 2
    assert_one_sentence(ended, "ROLLFORWARD_REDIS_URL", "redis://localhost:6379/0")
    assert "hush" not in ended.stderr
    assert_no_run(cli)


def test_an_unreachable_database_is_said(cli):
    url = "postgresql+psycopg://someone:secret@127.0.0.1:1/runs"
    away = CommandLine(cli.folder, {"ROLLFORWARD_CHECKPOINT_URL": url}, cli.mark)
    ended = away.run("run", GRAPH, "--set", "numbers=[1]", "--executor", "local")
    assert ended.code == 69
    assert "secret" not in ended.stderr
    assert_one_sentence(ended, "127.0.0.1")


def test_a_database_of_a_newer_schema_is_refused(cli):
    cli.ok("run", GRAPH, "--set", "numbers=[1]", "--executor", "local")
    with closing(sqlite3.connect(cli.folder / ".rollforward" / "state.db")) as database, database:
        database.execute("UPDATE rollforward_schema SET version_num = 'from_the_future'")
    ended = cli.run("run", GRAPH, "--set", "numbers=[1]", "--executor", "local")
    assert ended.code == 69
    assert_one_sentence(ended, "newer", "upgrade")


def test_a_refused_setting_is_named(cli):
    bad = CommandLine(cli.folder, {"ROLLFORWARD_LEASE_SECONDS": "soon"}, cli.mark)
    ended = bad.run("run", GRAPH)
    assert ended.code == 2
    assert_one_sentence(ended, "ROLLFORWARD_LEASE_SECONDS")


@pytest.mark.parametrize("verb", ["resume", "status", "items", "errors", "results", "verify", "cancel"])
def test_a_run_that_does_not_exist_is_said(cli, verb):
    assert cli.run(verb, "nope").code == 2
    cli.ok("run", GRAPH, "--set", "numbers=[1]", "--executor", "local", "--run-id", "one")
    ended = cli.run(verb, "nope")
    assert ended.code == 2
    assert_one_sentence(ended, "no run 'nope'", "rollforward ls")


def test_an_ambiguous_run_is_said(cli):
    for run_id in ("twin-1", "twin-2"):
        cli.ok("run", GRAPH, "--set", "numbers=[1]", "--executor", "local", "--run-id", run_id)
    ended = cli.run("status", "twin")
    assert ended.code == 2
    assert_one_sentence(ended, "fits 2 runs")


def test_a_run_id_that_is_taken_is_refused(cli):
    arguments = ("run", GRAPH, "--set", "numbers=[1]", "--executor", "local", "--run-id", "one")
    cli.ok(*arguments)
    ended = cli.run(*arguments)
    assert ended.code == 2
    assert_one_sentence(ended, "a run 'one' exists", "rollforward resume one")


@pytest.mark.parametrize("arguments", [["nope"], ["run"], ["items", "x", "--index", "a"], ["ls", "--limit", "0"]])
def test_usage_errors_end_with_2(cli, arguments):
    ended = cli.run(*arguments)
    assert ended.code == 2
    assert_one_sentence(ended, "--help")


def test_without_a_verb_the_help_is_printed_as_it_is(cli):
    ended = cli.run()
    assert ended.code == 2
    assert ended.stderr == cli.ok("--help").stdout
    assert ended.stdout == ""
