"""What a Python source defines, and how many ways there are through each function."""

import ast

from pydantic import BaseModel

BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Definition(BaseModel):
    """A class or function by its qualified name; `branches` counts the decisions of its own body."""

    name: str
    line: int
    is_function: bool
    branches: int = 0


def outline(tree: ast.AST) -> list[Definition]:
    """List the definitions of a syntax tree from top to bottom.

    The tree is walked with a stack of its own: the standard library has expressions deeper than the
    interpreter recurses.
    """
    found: list[Definition] = []
    pending: list[tuple[ast.AST, str, Definition | None]] = [(tree, "", None)]
    while pending:
        node, scope, function = pending.pop()
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            scope = f"{scope}.{node.name}".lstrip(".")
            function = Definition(name=scope, line=node.lineno, is_function=isinstance(node, FUNCTIONS))
            found.append(function)
        elif function is not None:
            function.branches += decisions(node)
        pending.extend((child, scope, function) for child in ast.iter_child_nodes(node))
    return sorted(found, key=lambda definition: definition.line)


def decisions(node: ast.AST) -> int:
    """Count the decisions that this one node adds to McCabe's number."""
    if isinstance(node, BRANCHES):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return 0
