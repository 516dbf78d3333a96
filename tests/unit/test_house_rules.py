"""The limits of size and the names that `CONTRIBUTING.md` promises."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("orchestrator", "backends", "workers", "rollforward")
SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "core", "types", "models", "manager"}
FILE_LIMIT = 400
FUNCTION_LIMIT = 40

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    last = function.end_lineno or function.lineno
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return last - function.lineno + 1 - docstring


def test_there_are_sources_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(LAYERS)


@each_source
def test_a_file_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LIMIT


@each_source
def test_a_function_has_at_most_40_lines(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert {node.name: length(node) for node in functions(tree) if length(node) > FUNCTION_LIMIT} == {}


@each_source
def test_a_file_is_named_for_its_idea(path: Path) -> None:
    assert not NAMELESS & set(path.relative_to(ROOT).with_suffix("").parts)


@each_source
def test_a_class_is_named_for_its_idea(path: Path) -> None:
    names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
    assert not {name for name in names if name.lower() in NAMELESS or name.startswith(("Base", "Abstract"))}


@each_source
def test_a_suppression_gives_its_reason(path: Path) -> None:
    marks = [line for line in path.read_text().splitlines() if "# noqa" in line or "# type: ignore" in line]
    assert [line for line in marks if not re.search(r"(noqa|ignore)\S* .*(- |# )\S+ \S+", line)] == []
