"""What the verbs print of a run, in shapes that scripts rely on."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from orchestrator.graph.naming_check import RESERVED_TAGS
from tests.service.cli import CommandLine

GRAPH = "tests.graph.tiny:graph"


@pytest.fixture
def ended(cli: CommandLine) -> CommandLine:
    """A folder with one run, `good`, of three instances."""
    cli.ok("run", GRAPH, "--executor", "local", "--set", "numbers=[1, 2, 3]", "--run-id", "good", "--progress", "none")
    return cli


@pytest.fixture
def failed(cli: CommandLine) -> CommandLine:
    """A folder with one run, `bad`, all of whose instances failed and were collected."""
    fields = ("--set", "numbers=[1, 2, 3]", "--set", 'act="fail"')
    cli.ok("run", GRAPH, "--executor", "local", *fields, "--run-id", "bad", "--progress", "none")
    return cli


def test_run_prints_ids_status_and_state(cli):
    ended = cli.ok("run", GRAPH, "--executor", "local", "--set", "numbers=[4]", "-o", "json")
    document = ended.document
    assert document["schema_version"] == 1
    assert document["status"] == "succeeded"
    assert document["state"] == {"numbers": [4], "act": "double", "folder": "", "results": ["8"]}
    assert document["run_id"] == document["invocation_id"]


def test_resume_of_a_finished_run_prints_its_result_again(ended):
    document = ended.ok("resume", "good", "-o", "json").document
    assert document["status"] == "succeeded"
    assert document["state"]["results"] == ["2", "4", "6"]


def test_a_run_is_found_by_a_unique_prefix(ended):
    assert ended.ok("status", "go", "-o", "json").document["run_id"] == "good"


def test_status_counts_by_state(ended):
    document = ended.ok("status", "good", "-o", "json").document
    assert document["counts"] == dict.fromkeys(document["counts"], 0) | {"succeeded": 3}
    assert (document["total"], document["problems"], document["eta_s"]) == (3, [], None)
    assert datetime.fromisoformat(document["created_at"]).utcoffset() == timedelta(0)


def test_status_rows_tell_every_state_of_each_instance_in_order(ended):
    rows = ended.ok("status", "good", "--rows", "-o", "jsonl").lines
    assert [row["sequence"] for row in rows] == sorted(row["sequence"] for row in rows)
    assert set(rows[0]) <= RESERVED_TAGS | {"schema_version"}
    for index in range(3):
        own = [row for row in rows if row["fan_out_index"] == index]
        assert [row["state"] for row in own] == ["QUEUED", "RUNNING", "SUCCESS"]
        assert {row["tags"]["parity"] for row in own} == {["odd", "even", "odd"][index]}
    assert {row["node"] for row in rows} == {"pieces"}
    assert rows[-1]["error"] is None


def test_the_id_that_a_caller_gives_a_run_is_on_all_that_is_kept_of_it(cli):
    given = ("--set", "numbers=[3]", "--run-id", "one", "--correlation-id", "order 7/a", "--progress", "none")
    cli.ok("run", "tests.graph.talking:graph", "--executor", "local", *given)
    assert cli.ok("status", "one", "-o", "json").document["correlation_id"] == "order 7/a"
    for verb in (("status", "one", "--rows"), ("logs", "one")):
        rows = cli.ok(*verb, "-o", "jsonl").lines
        assert {(row["run_id"], row["invocation_id"], row["correlation_id"]) for row in rows} == {
            ("one", "one", "order 7/a")
        }


def test_the_latest_status_rows_are_one_for_each_instance(failed):
    rows = failed.ok("status", "bad", "--latest", "-o", "json").document["items"]
    assert [row["state"] for row in rows] == ["FAILED"] * 3
    assert rows[0]["error"]["message"]
    shown = failed.ok("items", "bad", "-o", "json").document["items"][0]["error"]
    assert shown["category"] == rows[0]["error"]["category"] == "node_exception"


def test_status_rows_say_which_items_were_retried(cli):
    given = ("--set", 'acts=["ok", "flaky", "ok"]', "--executor", "local", "--run-id", "tried", "--progress", "none")
    cli.ok("run", "tests.graph.statuses:collecting", *given)
    asked = ("status", "tried", "--state", "retrying", "-o", "json")
    rows = cli.ok(*asked).document["items"]
    assert [(row["node"], row["fan_out_index"], row["attempt_index"]) for row in rows] == [
        ("files", 1, 1),
        ("again", 1, 1),
    ]
    assert {row["error"]["message"] for row in rows} == {"flaky, password=***"}
    assert [row["node"] for row in cli.ok(*asked, "--node", "again", "--index", "1").document["items"]] == ["again"]
    assert cli.ok(*asked, "--index", "0").document["items"] == []
    assert cli.ok(*asked, "--latest").document["items"] == []


@pytest.mark.parametrize("verb", [("status", "good", "--rows"), ("logs", "good")])
def test_a_node_or_an_index_that_a_run_does_not_have_is_refused_with_those_that_it_has(ended, verb):
    for place, said in (
        (("--node", "piece"), "run good has no fan-out 'piece', but pieces"),
        (("--index", "3"), "run good has no instance 3, but pieces with 0 to 2"),
    ):
        refused = ended.run(*verb, *place)
        assert (refused.code, refused.stdout) == (2, "")
        assert said in refused.stderr
    ended.ok(*verb, "--node", "pieces", "--index", "2")


def test_status_rows_that_are_not_kept_say_how_to_keep_them(cli):
    quiet = replace(cli, environment={**cli.environment, "ROLLFORWARD_STATUS": "off"})
    quiet.ok("run", GRAPH, "--executor", "local", "--set", "numbers=[1]", "--run-id", "quiet")
    for reader in (cli, quiet):
        assert "ROLLFORWARD_STATUS" in reader.ok("status", "quiet", "--rows").stderr


def test_status_rows_that_could_not_be_kept_are_counted_at_the_end_of_a_run_which_goes_well(cli):
    away = replace(cli, environment={**cli.environment, "ROLLFORWARD_STATUS": "sqlite:////dev/null/rows.db"})
    ended = away.ok("run", GRAPH, "--executor", "local", "--set", "numbers=[1]", "--run-id", "blind")
    (said,) = [line for line in ended.stderr.splitlines() if "lost" in line]
    assert said.startswith("3 status rows were lost: they could not be written by the end (")


def test_items_print_one_object_per_instance(ended):
    items = ended.ok("items", "good", "-o", "jsonl").lines
    assert [item["fan_out_index"] for item in items] == [0, 1, 2]
    expected = {"fan_out": "pieces", "lineage": [], "state": "succeeded", "delivery_attempt": 1, "error": None}
    assert all(expected.items() <= item.items() for item in items)
    assert [item["key"] for item in items] == ["1", "2", "3"]
    assert [item["tags"] for item in items] == [{"parity": "odd"}, {"parity": "even"}, {"parity": "odd"}]
    assert all(item["worker"] for item in items)


@pytest.mark.parametrize(
    ("arguments", "indexes"),
    [
        (["--index", "1"], [1]),
        (["--index", "1-2"], [1, 2]),
        (["--index", "2-"], [2]),
        (["--index", "7-9"], []),
        (["--state", "failed"], []),
        (["--state", "failed", "--state", "succeeded", "--limit", "2"], [0, 1]),
        (["--fan-out", "pieces"], [0, 1, 2]),
        (["--fan-out", "other"], []),
    ],
)
def test_items_are_selected(ended, arguments, indexes):
    items = ended.ok("items", "good", "-o", "json", *arguments).document["items"]
    assert [item["fan_out_index"] for item in items] == indexes


def test_errors_say_what_failed_and_where(failed):
    errors = failed.ok("errors", "bad", "-o", "jsonl").lines
    assert [error["fan_out_index"] for error in errors] == [0, 1, 2]
    assert {error["type"] for error in errors} == {"ValueError"}
    assert (errors[0]["message"], errors[0]["category"]) == ("item 1 is bad", "node_exception")
    assert "pieces/work" in failed.ok("errors", "bad").stdout
    assert "raise ValueError" in errors[0]["traceback"]


@pytest.mark.parametrize(("group", "name"), [("type", "ValueError"), ("node", "pieces/work")])
def test_errors_are_counted_by_group(failed, group, name):
    groups = failed.ok("errors", "bad", "--group-by", group, "-o", "json").document["items"]
    assert [(one[group], one["count"]) for one in groups] == [(name, 3)]


def test_collected_failures_leave_the_run_succeeded(failed):
    assert failed.ok("status", "bad", "-o", "json").document["counts"]["failed"] == 3
    assert failed.ok("verify", "bad", "-o", "json").document["fan_outs"][0]["failed"] == 3


def test_a_run_that_collected_failures_says_how_many_and_where_they_are(cli):
    fields = ("--set", "numbers=[1, 2, 3]", "--set", 'act="fail"')
    ran = cli.ok("run", GRAPH, "--executor", "local", *fields, "--run-id", "bad", "--progress", "none")
    assert ran.stderr == "3 instances failed; see `rollforward errors bad`\n"


def test_results_come_by_index(ended):
    results = ended.ok("results", "good", "-o", "jsonl").lines
    assert [one["result"] for one in results] == [{"result": "2"}, {"result": "4"}, {"result": "6"}]


def test_results_are_written_to_a_file(ended):
    ran = ended.ok("results", "good", "--to", "out.jsonl")
    assert ran.stdout == ""
    written = (ended.folder / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["fan_out_index"] for line in written] == [0, 1, 2]


def test_results_to_a_dash_are_json_lines_on_stdout(ended):
    ran = ended.ok("results", "good", "--to", "-")
    assert [one["fan_out_index"] for one in ran.lines] == [0, 1, 2]
    assert ran.lines == ended.ok("results", "good", "-o", "jsonl").lines
    assert not list(ended.folder.glob("-*"))


def test_results_to_a_place_that_cannot_be_written_is_said(ended):
    ran = ended.run("results", "good", "--to", "no/such/folder/out.jsonl")
    assert ran.code == 2
    assert "cannot be written" in ran.stderr


def test_ls_lists_newest_first(ended):
    ended.ok("run", GRAPH, "--executor", "local", "--set", "numbers=[1]", "--run-id", "later", "--progress", "none")
    assert [run["run_id"] for run in ended.ok("ls", "-o", "json").document["items"]] == ["later", "good"]
    assert [run["run_id"] for run in ended.ok("ls", "-o", "jsonl", "--limit", "1").lines] == ["later"]
    assert ended.ok("ls", "-o", "jsonl", "--status", "failed").lines == []


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_what_instances_print_goes_to_stderr_where_they_run_in_this_process(cli, verb):
    given = ("--set", "numbers=[7]", "--run-id", "one")
    noise = ("import os", "print('imported')", "os.system('echo of a child')", "from tests.graph.talking import graph")
    (cli.folder / "noisy.py").write_text("\n".join(noise))
    if verb == "run":
        ran = cli.ok("run", "noisy:graph", "--executor", "local", *given, "-o", "json", "--progress", "none")
    else:
        cli.ok("run", "noisy:graph", "--executor", "local", *given)
        ran = cli.ok("resume", "one", "-o", "json")
    assert ran.document["state"]["words"] == [7]
    told = {"imported", "of a child", *(["out 7"] if verb == "run" else [])}
    assert told <= set(ran.stderr.splitlines())
    lines = cli.ok("logs", "one", "-o", "jsonl").lines
    assert [line["text"] for line in lines if line["stream"] == "stdout"] == ["out 7"]


def test_looking_makes_nothing(cli):
    assert cli.ok("ls", "-o", "json").document["items"] == []
    assert list(cli.folder.iterdir()) == []


@pytest.mark.parametrize("verb", ["ls", "status", "items", "errors", "results", "verify"])
def test_tables_are_for_people(failed, verb):
    arguments = [] if verb == "ls" else ["bad"]
    ran = failed.ok(verb, *arguments)
    assert "{" not in ran.stdout.splitlines()[0] if ran.stdout else verb == "results"


def test_what_is_wrong_with_a_call_is_a_sentence_and_what_helps_another(ended):
    assert "leave --watch out. `rollforward status --help`" in ended.run("status", "good", "--watch", "--rows").stderr


def test_watch_ends_with_the_run(ended):
    assert ended.ok("status", "good", "--watch", "-o", "jsonl").lines[-1]["status"] == "succeeded"


def test_json_progress_goes_to_stderr(cli):
    ran = cli.ok("run", GRAPH, "--executor", "local", "--set", "numbers=[1, 2]", "-o", "json", "--progress", "json")
    last = json.loads(ran.stderr.splitlines()[-1])
    assert (last["done"], last["total"]) == (2, 2)
    assert ran.document["status"] == "succeeded"


def test_a_reader_that_leaves_early_is_no_error(ended):
    with ended.started("items", "good", "-o", "jsonl") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
        process.wait(timeout=30)
    assert told == ""
    assert process.returncode in (0, 141)


def test_a_failed_run_says_so_and_can_be_resumed(cli):
    ended = cli.run("run", "tests.graph.crashing:graph", "--executor", "local", "--run-id", "one", "-o", "json")
    assert ended.code == 1
    assert ended.document["status"] == "failed"
    assert ended.document["state"] is None
    assert "the tool is missing" in ended.document["error"]["message"]
    (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("rollforward: ")]
    assert sentence.endswith("; see `rollforward errors one`")
    assert "rollforward resume one" in ended.stderr
    whole = "node 'use_tool' failed: the tool is missing"
    assert whole in cli.ok("status", "one").stdout
    assert [run["error"] for run in cli.ok("ls", "-o", "json").document["items"]] == [whole]
    (error,) = cli.ok("errors", "one", "-o", "json").document["items"]
    assert (error["fan_out_index"], error["node"], error["category"]) == (None, "use_tool", "node_exception")
    (cli.folder / "tool").touch()
    assert cli.ok("resume", "one", "-o", "json").document["state"]["is_done"] is True


def test_config_says_where_each_value_came_from(cli):
    (cli.folder / "pyproject.toml").write_text("[tool.rollforward]\nmax_deliveries = 7\n")
    environment = {
        "ROLLFORWARD_SECRET": "hush",
        "ROLLFORWARD_CHECKPOINT_URL": "postgresql+psycopg://me:hush@host/db",
        "CELERY_BROKER_URL": "amqp://me:hush@host//",
    }
    ran = CommandLine(cli.folder, environment).ok("config", "-o", "json")
    settings = {one["name"]: (one["value"], one["source"]) for one in ran.document["items"]}
    assert settings["ROLLFORWARD_MAX_DELIVERIES"] == ("7", "pyproject.toml")
    assert settings["ROLLFORWARD_LEASE_SECONDS"] == ("15.0", "default")
    assert settings["ROLLFORWARD_BROKER_URL"] == ("amqp://me:***@host//", "env CELERY_BROKER_URL")
    assert settings["ROLLFORWARD_CHECKPOINT_URL"][1] == "env ROLLFORWARD_CHECKPOINT_URL"
    assert "hush" not in ran.stdout


def test_items_come_from_text_lines_json_lines_and_csv_rows(cli):
    (cli.folder / "items.txt").write_text("1\n2\n")
    (cli.folder / "items.jsonl").write_text("3\n\n4\n")
    for name, results in (("items.txt", ["2", "4"]), ("items.jsonl", ["6", "8"])):
        ran = cli.ok("run", GRAPH, "--executor", "local", "--items", name, "--into", "numbers", "-o", "json")
        assert ran.document["state"]["results"] == results


def test_help_needs_no_verb_to_be_loaded(cli):
    shown = cli.ok("--help").stdout
    for verb in ("run", "resume", "serve", "verify", "doctor"):
        assert f"\n  {verb} " in shown


def test_every_verb_has_help(cli):
    for verb in ("run", "resume", "ls", "status", "items", "errors", "results", "verify", "cancel", "worker", "serve"):
        assert "Usage: rollforward" in cli.ok(verb, "--help").stdout
