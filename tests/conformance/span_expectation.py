"""What fixtures expect of the traces of a case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from tests.conformance.document import UnknownDirective
from tests.conformance.expectation import Check, same
from tests.conformance.running import Played, Run
from tests.conformance.span_forest import (
    IMPLEMENTATION,
    INVOCATION,
    THEIRS,
    Bindings,
    Forest,
    Tree,
    is_binding,
    ours,
)
from tests.service.otlp import SeenSpan

PARAMETERS = {"implementation_name": IMPLEMENTATION}
"""What a fixture leaves to whoever runs it."""


@dataclass
class Reading:
    """How one expected tree is read: with what its ids stand for, and whether it names all spans that there are."""

    bindings: Bindings
    is_excerpt: bool = False


def trees_match(trees: Sequence[Tree], expected: Sequence[Any], what: str, bindings: Bindings | None = None) -> None:
    """Exactly these spans in this order, with what is under them."""
    _match(trees, expected, what, Reading(bindings or Bindings(), any(map(_is_excerpt, expected))))


def _match(trees: Sequence[Tree], expected: Sequence[Any], what: str, reading: Reading) -> None:
    same([tree.name for tree in trees], [one.get("name") for one in expected], f"the spans of {what}")
    for tree, want in zip(trees, expected, strict=True):
        _matches(tree, want, f"{what}/{tree.name}", reading)


def _matches(tree: Tree, expected: Mapping[str, Any], what: str, reading: Reading) -> None:
    for key, value in expected.items():
        if key == "children":
            _match(_asked_for(tree, value, is_excerpt=reading.is_excerpt), value, what, reading)
        elif key == "links":
            _links(tree, value, what, reading.bindings)
        elif key in OF_SPAN:
            OF_SPAN[key](tree, value, what)
        else:
            raise UnknownDirective(f"{what}.{key}")


def _asked_for(tree: Tree, expected: Sequence[Any], *, is_excerpt: bool) -> list[Tree]:
    """The spans under it; of branches that a failure of another one may have cut off, those that are expected.

    So are those of an excerpt. A whole tree says of every span what is under it, and that there is nothing.
    """
    is_cut_off = tree.of("parallel_branches.error_policy") == "fail_fast" and tree.span.status == "ERROR"
    if not is_cut_off and not is_excerpt:
        return tree.children
    names = [one["name"] for one in expected]
    return [child for child in tree.children if child.name in names]


def _is_excerpt(expected: Mapping[str, Any]) -> bool:
    return "children" not in expected or any(_is_excerpt(child) for child in expected["children"])


def _attributes(tree: Tree, expected: Mapping[str, Any], what: str) -> None:
    for name, value in expected.items():
        _attribute(tree.attributes.get(name), value, f"{what}.{name}")


def _attribute(actual: Any, expected: Any, what: str) -> None:
    if not isinstance(expected, dict):
        assert actual or actual in (0, False) or expected == "", f"{what}: there is none"
        same(actual, expected, what)
        return
    for key, value in expected.items():
        match key:
            case "harness_parameterized":
                assert value in PARAMETERS, f"{what}: nobody knows {value}"
                same(actual, PARAMETERS[value], what)
            case "non_empty_string":
                same(isinstance(actual, str) and actual != "", value, what)
            case _:
                raise UnknownDirective(f"{what}.{key}")


def _absent(tree: Tree, expected: Sequence[str], what: str) -> None:
    for name in expected:
        assert name in KNOWN_ATTRIBUTES, f"{what}: no span ever has {name}"
        assert name not in tree.attributes, f"{what} has {name}"


def _links(tree: Tree, expected: Sequence[Mapping[str, str]], what: str, bindings: Bindings) -> None:
    same(len(tree.span.links), len(expected), f"the links of {what}")
    for (trace_id, _), want in zip(tree.span.links, expected, strict=True):
        same(list(want), ["target_trace_id"], f"what is asked of a link of {what}")
        _id(trace_id, want["target_trace_id"], f"a link of {what}", bindings)


def _id(actual: Any, expected: Any, what: str, bindings: Bindings) -> None:
    if is_binding(expected):
        bindings.same(actual, expected, what)
    else:
        same(actual, expected, what)


KNOWN_ATTRIBUTES = frozenset((f"{THEIRS}implementation.name", f"{THEIRS}implementation.version"))
"""What is looked for in vain means something only where it is found elsewhere."""

OF_SPAN: dict[str, Callable[[Tree, Any, str], None]] = {
    "name": lambda tree, value, what: same(tree.name, value, what),
    "status": lambda tree, value, what: same(tree.span.status, value, f"the status of {what}"),
    "status_description": lambda tree, value, what: same(tree.span.description, value, f"the description of {what}"),
    "exception_recorded": lambda tree, value, what: same(tree.has_exception, value, f"the exception of {what}"),
    "link_count": lambda tree, value, what: same(len(tree.span.links), value, f"the links of {what}"),
    "attributes": _attributes,
    "attributes_absent": _absent,
}


def _span_tree(_played: Played, run: Run, expected: Any) -> None:
    trees_match(run.forest.roots, expected, "the trace")


def _traces(_played: Played, run: Run, expected: Any) -> None:
    roots, bindings = run.forest.roots, Bindings()
    same(len(roots), len(expected), "the number of traces")
    for root, want in zip(roots, expected, strict=True):
        same(set(want), {"trace_id", "span_tree"}, "what is asked of a trace")
        _id(root.span.trace_id, want["trace_id"], "a trace", bindings)
        trees_match([root], want["span_tree"], want["trace_id"], bindings)


def _parent_trace(_played: Played, run: Run, expected: Any) -> None:
    same(set(expected), {"span_tree"}, "what is asked of the parent trace")
    trees_match(run.forest.roots[:1], expected["span_tree"], "the parent trace")


def _on_global(played: Played, _run: Run, expected: Any) -> None:
    spans = [
        SeenSpan(
            name=one.name,
            trace_id=f"{one.context.trace_id:032x}",
            span_id=f"{one.context.span_id:016x}",
            attributes=dict(one.attributes or {}),
        )
        for one in played.spans_of_everybody
    ]
    trees_match(Forest(spans).roots, expected, "the provider of everybody")


def _none_of_ours_on_global(played: Played, run: Run, expected: Any) -> None:
    assert run.forest.all, "there are no spans of ours at all"
    ids = {tree.span.span_id for tree in run.forest.all}
    found = [one.name for one in played.spans_of_everybody if f"{one.context.span_id:016x}" in ids]
    found += [one.name for one in played.spans_of_everybody if one.name.startswith(ours(THEIRS))]
    same(not found, expected, "none of ours")


def _no_edge_spans(played: Played, run: Run, expected: Any) -> None:
    assert played.graph is not None
    names = {tree.name for tree in run.forest.all}
    same(names <= {INVOCATION, *played.graph.nodes} and len(names) > 1, expected, "nothing but nodes has spans")


def _no_llm_span(_played: Played, run: Run, expected: Any) -> None:
    same(bool(run.forest.all) and not any(tree.is_llm for tree in run.forest.all), expected, "no span of a call")


def _log_records(_played: Played, run: Run, expected: Any) -> None:
    bindings = Bindings()
    same([record.getMessage() for record in run.logs], [want["body"] for want in expected], "what is logged")
    for record, want in zip(run.logs, expected, strict=True):
        same(set(want), {"body", "attributes"}, "what is asked of a log record")
        for name, value in want["attributes"].items():
            _id(getattr(record, name.removeprefix(THEIRS), None), value, f"{want['body']}.{name}", bindings)


def _determinism(played: Played, _run: Run, expected: Any) -> None:
    same(set(expected), {"compare_runs", "ignore_attributes", "compare", "require_equal"}, "what is asked of two runs")
    one, other = (played.runs[index].forest for index in expected["compare_runs"])
    assert one is not other, "a run is compared with itself"
    assert one.all, "there are no spans"
    is_equal = all(_compared(part, one, other, expected["ignore_attributes"]) for part in expected["compare"])
    same(is_equal, expected["require_equal"], "the two runs are equal")


def _compared(part: str, one: Forest, other: Forest, ignored: Sequence[str]) -> bool:
    if part not in COMPARED:
        raise UnknownDirective(f"determinism_check.compare: {part}")
    return bool(COMPARED[part](one, ignored) == COMPARED[part](other, ignored))


def _structure(forest: Forest, _ignored: Sequence[str]) -> Any:
    def of(tree: Tree) -> Any:
        return [of(child) for child in tree.children]

    return [of(root) for root in forest.roots]


def _kept_attributes(forest: Forest, ignored: Sequence[str]) -> Any:
    """Without those that are ignored, and without those that repeat the value of one: the run goes by its first id."""
    found = []
    for tree in forest.all:
        values = [value for name, value in tree.attributes.items() if _is_ignored(name, ignored)]
        kept = {name: value for name, value in tree.attributes.items() if not _is_ignored(name, ignored)}
        found.append({name: value for name, value in kept.items() if value not in values})
    return found


def _is_ignored(name: str, ignored: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in ignored)


COMPARED: dict[str, Callable[[Forest, Sequence[str]], Any]] = {
    "span_tree_structure": _structure,
    "span_names": lambda forest, _: [tree.name for tree in forest.all],
    "span_status": lambda forest, _: [(tree.span.status, tree.span.description) for tree in forest.all],
    "span_attributes_excluding_ignored": _kept_attributes,
}

OF_TRACES: dict[str, Check] = {
    "span_tree": _span_tree,
    "span_tree_private": _span_tree,
    "span_tree_global": _on_global,
    "no_openarmature_spans_on_global": _none_of_ours_on_global,
    "traces": _traces,
    "parent_trace": _parent_trace,
    "detached_trace_count": lambda _p, run, value: same(len(run.forest.roots) - 1, value, "detached traces"),
    "no_edge_spans": _no_edge_spans,
    "no_llm_provider_span": _no_llm_span,
    "no_spans_emitted": lambda _p, run, value: same(not run.forest.all, value, "no spans"),
    "log_records": _log_records,
    "determinism_check": _determinism,
    "invocation_count": lambda played, _r, value: same(len(played.runs), value, "invocations"),
}
