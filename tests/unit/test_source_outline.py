import ast
from textwrap import dedent

import pytest

from examples.source_outline import outline


def branches(source: str) -> int:
    [function] = outline(ast.parse(f"def f():\n{dedent(source).strip()}".replace("\n", "\n    ")))
    return function.branches


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("pass", 0),
        ("if a: pass", 1),
        ("if a: pass\nelif b: pass\nelse: pass", 2),
        ("for a in b: pass", 1),
        ("while a: pass", 1),
        ("try: pass\nexcept A: pass\nexcept B: pass", 2),
        ("return a if b else c", 1),
        ("return a and b or c", 2),
        ("return a and b and c", 2),
        ("return [a for a in b if a if b]", 3),
        ("match a:\n  case 1: pass\n  case _: pass", 2),
        ("with a: pass", 0),
    ],
)
def test_a_decision_adds_one_way_through_a_function(source: str, expected: int) -> None:
    assert branches(source) == expected


def test_definitions_have_qualified_names_from_top_to_bottom() -> None:
    source = "class A:\n  def f(self):\n    def g(): pass\nasync def h(): pass\n"
    assert [(found.name, found.line, found.is_function) for found in outline(ast.parse(source))] == [
        ("A", 1, False),
        ("A.f", 2, True),
        ("A.f.g", 3, True),
        ("h", 4, True),
    ]


def test_a_decision_counts_for_the_innermost_definition_only() -> None:
    source = "def outer():\n  def inner():\n    if a: pass\n"
    assert {found.name: found.branches for found in outline(ast.parse(source))} == {"outer": 0, "outer.inner": 1}


def test_a_tree_deeper_than_the_interpreter_recurses_is_walked() -> None:
    deep: ast.expr = ast.Constant(1)
    for _ in range(10_000):
        deep = ast.UnaryOp(ast.USub(), deep)
    tree = ast.Module([ast.Expr(deep)], [])
    assert outline(tree) == []
    while isinstance(deep, ast.UnaryOp):
        deep = deep.operand
