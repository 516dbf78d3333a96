"""The spans of an invocation as trees, with the names that fixtures use."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.service.otlp import SeenSpan

THEIRS, OURS = "openarmature.", "rollforward."
IMPLEMENTATION = "rollforward"
LLM = f"{THEIRS}llm.complete"
INVOCATION = f"{THEIRS}invocation"
USER = f"{THEIRS}user."


def theirs(name: str) -> str:
    """A name of ours as fixtures have it; a graph of a case goes by the part behind the case's address."""
    if name.startswith(OURS):
        return THEIRS + name.removeprefix(OURS)
    return name.rpartition("#")[2] if name.startswith("conformance:") else name


def ours(name: str) -> str:
    """A name of fixtures as we have it."""
    return OURS + name.removeprefix(THEIRS) if name.startswith(THEIRS) else name


@dataclass(eq=False)
class Tree:
    """A span and those under it, in the order in which they began; instances by their index."""

    span: SeenSpan
    children: list["Tree"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return theirs(self.span.name)

    @property
    def attributes(self) -> dict[str, Any]:
        return {theirs(name): value for name, value in self.span.attributes.items()}

    @property
    def user(self) -> dict[str, Any]:
        """The metadata on it."""
        found = {name: value for name, value in self.attributes.items() if name.startswith(USER)}
        return {name.removeprefix(USER): value for name, value in found.items()}

    @property
    def index(self) -> Any:
        return self.of("node.fan_out_index")

    @property
    def branch(self) -> Any:
        return self.of("node.branch_name")

    @property
    def has_exception(self) -> bool:
        return any(event.name == "exception" for event in self.span.events)

    @property
    def is_llm(self) -> bool:
        return self.name == LLM

    @property
    def is_instance(self) -> bool:
        return self.of("fan_out.parent_node_name") is not None

    @property
    def is_branch(self) -> bool:
        return self.of("parallel_branches.parent_node_name") is not None

    @property
    def is_fan_out(self) -> bool:
        return self.of("fan_out.item_count") is not None

    @property
    def is_fork(self) -> bool:
        return self.is_fan_out or self.of("parallel_branches.branch_count") is not None

    @property
    def is_function(self) -> bool:
        """Whether it is of a node that runs a function."""
        is_other = self.is_llm or self.is_instance or self.is_branch or self.is_fork or self.name == INVOCATION
        return not is_other and self.of("subgraph.name") is None

    def of(self, name: str) -> Any:
        """An attribute of the product's own."""
        return self.span.attributes.get(OURS + name)

    def walk(self) -> Iterator["Tree"]:
        """It and all under it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


class Forest:
    """All spans of an invocation: its own trace first, then those that it links to, in the order of the links."""

    def __init__(self, spans: Sequence[SeenSpan]) -> None:
        trees = {span.span_id: Tree(span) for span in sorted(spans, key=lambda span: span.start)}
        self._parents: dict[str, Tree] = {}
        roots = []
        for tree in trees.values():
            parent = trees.get(tree.span.parent_id or "")
            if parent is None:
                roots.append(tree)
            else:
                parent.children.append(tree)
                self._parents[tree.span.span_id] = parent
        for tree in trees.values():
            tree.children.sort(key=_place)
        self.arrival = [trees[span.span_id] for span in spans]
        """The spans in the order in which they ended, as the collector was told."""
        self.roots = _main_first(roots, [link for tree in trees.values() for link in tree.span.links])

    @property
    def all(self) -> list[Tree]:
        return [tree for root in self.roots for tree in root.walk()]

    @property
    def main(self) -> list[Tree]:
        """The spans of the invocation's own trace."""
        return list(self.roots[0].walk()) if self.roots else []

    def named(self, name: str) -> list[Tree]:
        return [tree for tree in self.all if tree.name == name]

    def parent(self, tree: Tree) -> Tree | None:
        return self._parents.get(tree.span.span_id)

    def around(self, tree: Tree) -> Iterator[Tree]:
        """The spans around it, innermost first."""
        parent = self.parent(tree)
        while parent is not None:
            yield parent
            parent = self.parent(parent)

    def is_whole(self) -> bool:
        """Whether every instance that was traced has arrived: those of a worker come when it is done with them."""
        is_received = all(root.span.parent_id is None for root in self.roots)
        return is_received and all(self._has_instances(tree) for tree in self.all if tree.is_fan_out)

    def leads_on(self, tree: Tree) -> bool:
        """Whether it links to another trace of the invocation."""
        others = {root.span.trace_id for root in self.roots} - {tree.span.trace_id}
        return any(trace_id in others for trace_id, _ in tree.span.links)

    def _has_instances(self, fork: Tree) -> bool:
        """Those in traces of their own are all linked to; of others, a failure may have cut some off."""
        if fork.span.links:
            return {trace_id for trace_id, _ in fork.span.links} <= {root.span.trace_id for root in self.roots}
        count: int = fork.of("fan_out.item_count")
        return fork.span.status == "ERROR" or len(fork.children) >= count


def _place(tree: Tree) -> tuple[Any, ...]:
    return (0, tree.index, 0) if tree.is_instance else (1, 0, tree.span.start)


def _main_first(roots: list[Tree], links: Sequence[tuple[str, str]]) -> list[Tree]:
    targets = [trace_id for trace_id, _ in links]
    return sorted(roots, key=lambda tree: targets.index(tree.span.trace_id) + 1 if tree.span.trace_id in targets else 0)


def is_binding(value: Any) -> bool:
    """Whether a fixture's value stands for an id that is the same wherever it stands."""
    return isinstance(value, str) and re.fullmatch(r"<(trace|span)_id_\w+>", value) is not None


@dataclass
class Bindings:
    """What such values stand for: one id each, and no two for the same one."""

    known: dict[str, str] = field(default_factory=dict)

    def same(self, actual: Any, name: str, what: str) -> None:
        assert isinstance(actual, str), f"{what}: {actual!r} is no id"
        assert actual, f"{what}: the id is empty"
        assert self.known.setdefault(name, actual) == actual, f"{what}: {actual} is not {self.known[name]}, as {name}"
        others = [other for other, value in self.known.items() if value == actual and other != name]
        assert not others, f"{what}: {name} is {others}"
