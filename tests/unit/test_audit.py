import json
import os
import sys
from pathlib import Path

import pytest

from examples import stdlib_audit
from examples.audit_report import Measure, present
from examples.stdlib_audit import Audit, Source, UnparsableSource


async def measured(folder: Path, path: str) -> Measure:
    source = Source(folder=str(folder), path=path)
    source = source.model_copy(update=stdlib_audit.read(source))
    source = source.model_copy(update=await stdlib_audit.parse(source))
    assert stdlib_audit.route(source) == "measure"
    return (await stdlib_audit.measure(source))["measure"]


def test_the_sources_of_a_folder_are_listed_sorted_and_without_installed_packages(tmp_path: Path) -> None:
    for name in ("b.py", "a/z.py", "a/note.txt", "site-packages/installed.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert stdlib_audit.list_files(Audit(folder=str(tmp_path))) == {
        "folder": str(tmp_path),
        "paths": ["a/z.py", "b.py"],
    }


def test_the_standard_library_is_the_default_and_large() -> None:
    listed = stdlib_audit.list_files(Audit())
    assert len(listed["paths"]) > 1500
    assert Path(listed["folder"]) == Path(os.__file__).parent


async def test_a_file_is_measured_by_lines_classes_and_functions(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class A:\n    def f(self):\n        return 1 if self else 2\n")
    measure = await measured(tmp_path, "a.py")
    assert (measure.lines, measure.classes) == (3, 1)
    assert [(function.name, function.complexity) for function in measure.functions] == [("A.f", 2)]


async def test_an_empty_file_parses(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    assert (await measured(tmp_path, "a.py")).lines == 0


@pytest.mark.parametrize("content", [b"def", b"x = '\0'", b"# coding: no-such\n", b"\xff"])
async def test_a_file_that_does_not_parse_fails_with_its_reason(content: bytes) -> None:
    source = Source(folder="", path="bad.py", content=content)
    source = source.model_copy(update=await stdlib_audit.parse(source))
    assert stdlib_audit.route(source) == "unparsable"
    with pytest.raises(UnparsableSource) as caught:
        await stdlib_audit.unparsable(source)
    assert str(caught.value) == source.problem


async def test_the_report_adds_up_and_names_failures(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    if a: pass\ndef g(): pass\n")
    state = Audit(
        paths=["a.py", "bad.py"],
        measures=[await measured(tmp_path, "a.py")],
        errors=[{"fan_out_index": "1", "category": "source_unparsable", "message": "invalid syntax"}],
    )
    report = (await stdlib_audit.summarise(state))["report"]
    assert (report.files, report.measured, report.lines, report.functions) == (2, 1, 3, 2)
    assert report.mean_complexity == 1.5
    assert [function.name for function in report.most_complex] == ["f", "g"]
    assert [(failure.path, failure.reason) for failure in report.failures] == [("bad.py", "invalid syntax")]


async def test_the_report_is_printed_and_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors: list[dict[str, str]] = [{"fan_out_index": "0", "category": "source_unparsable"}]
    report = (await stdlib_audit.summarise(Audit(paths=["bad.py"], errors=errors)))["report"]
    run = json.dumps({"run_id": "r", "state": {"report": report.model_dump()}})
    present(run, tmp_path / "audit.json")
    assert "bad.py" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text()) == report.model_dump()


def test_an_execution_leaves_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = tmp_path / "witness.txt"
    monkeypatch.setenv(stdlib_audit.WITNESS, str(witness))
    (tmp_path / "a.py").touch()
    monkeypatch.setattr(stdlib_audit, "current_fan_out_index", lambda: 7)
    stdlib_audit.read(Source(folder=str(tmp_path), path="a.py"))
    stdlib_audit.read(Source(folder=str(tmp_path), path="a.py"))
    assert witness.read_text() == f"7 {os.getpid()}\n" * 2


def test_without_a_run_on_stdin_the_usage_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stdlib_audit"])
    with pytest.raises(SystemExit, match="usage: rollforward run"):
        stdlib_audit.main()
