"""What fixtures say in a word of metadata: who reads it, and which spans have it."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tests.conformance.excerpt import Check, final
from tests.conformance.langfuse import trace_id, trace_metadata
from tests.conformance.running import Played, Run
from tests.conformance.span_forest import Tree


def baseline(played: Played) -> Mapping[str, Any]:
    found: Mapping[str, Any] = played.case.values.get("caller_metadata") or {}
    return found


def added(played: Played, tree: Tree) -> dict[str, Any]:
    """The metadata on a span that the caller did not give."""
    return {name: value for name, value in tree.user.items() if name not in baseline(played)}


def _universal(played: Played, run: Run, _: Any) -> bool:
    held = baseline(played).items()
    return bool(held) and bool(run.forest.all) and all(held <= tree.user.items() for tree in run.forest.all)


def _isolated(is_one: Callable[[Tree], bool]) -> Check:
    """Whether each of several such spans has something of its own, which is on all under it and on no other one's."""

    def check(played: Played, run: Run, _: Any) -> bool:
        own = [(tree, added(played, tree)) for tree in run.forest.all if is_one(tree)]
        is_on_all = all(added(played, inner) == held for tree, held in own for inner in tree.walk())
        return len(own) > 1 and is_on_all and _are_disjoint([held for _, held in own])

    return check


def _are_disjoint(held: Sequence[Mapping[str, Any]]) -> bool:
    pairs = [pair for one in held for pair in one.items()]
    return all(held) and len(set(pairs)) == len(pairs)


def _branch_names(_played: Played, run: Run, _: Any) -> bool:
    branches = [tree for tree in run.forest.all if tree.is_branch]
    return len(branches) > 1 and all(inner.branch == tree.name for tree in branches for inner in tree.walk())


def _updated_while_open(played: Played, run: Run, _: Any) -> bool:
    (root,) = run.forest.roots
    spans = [root, *root.children]
    return len(spans) > 1 and all(added(played, tree) for tree in spans)


def _outer_instances(run: Run) -> list[Tree]:
    return [
        tree
        for tree in run.forest.all
        if tree.is_instance and not any(around.is_instance for around in run.forest.around(tree))
    ]


def _outer_carry(played: Played, run: Run, _: Any) -> bool:
    """What was added deep inside an outer instance is on its span too."""
    outer = _outer_instances(run)
    inner = [[one for one in tree.walk() if one.is_llm and added(played, one)] for tree in outer]
    return bool(outer) and all(
        found and all(added(played, one).items() <= added(played, tree).items() for one in found)
        for tree, found in zip(outer, inner, strict=True)
    )


def _outer_are_apart(played: Played, run: Run, _: Any) -> bool:
    outer = _outer_instances(run)
    within = [{pair for one in tree.walk() for pair in added(played, one).items()} for tree in outer]
    return len(within) > 1 and all(within) and sum(map(len, within)) == len(set().union(*within))


def _shared_are_bare(played: Played, run: Run, _: Any) -> bool:
    shared = [run.forest.roots[0], *(tree for tree in run.forest.all if tree.is_fork)]
    return len(shared) > 1 and not any(added(played, tree) for tree in shared)


def _sibling_branch_is_bare(played: Played, run: Run, _: Any) -> bool:
    """Of the branches beside each other one added something, and nothing of it is in the other."""
    forks = [[child for child in tree.children if child.is_branch] for tree in run.forest.all if tree.is_fork]
    forks = [branches for branches in forks if branches]
    return bool(forks) and all(
        sorted(any(added(played, one) for one in branch.walk()) for branch in branches) == [False, True]
        for branches in forks
    )


def _wrapper_carries_last(played: Played, run: Run, _: Any) -> bool:
    (wrapper,) = [tree for tree in run.forest.all if tree.of("subgraph.name") is not None]
    instances = [tree for tree in wrapper.walk() if tree.is_instance]
    return bool(instances) and added(played, wrapper) == added(played, instances[-1]) != {}


def _fork_is_bare(played: Played, run: Run, _: Any) -> bool:
    forks = [tree for tree in run.forest.all if tree.is_fork]
    return bool(forks) and not any(added(played, tree) for tree in forks)


def _root_is_bare(played: Played, run: Run, _: Any) -> bool:
    others = any(added(played, tree) for tree in run.forest.all)
    return others and not added(played, run.forest.roots[0])


def _reads(field: str, *, has: Sequence[str] = (), lacks: Sequence[str] = ()) -> Check:
    """Whether what was read has the caller's entries and these, and not those."""

    def check(played: Played, run: Run, _: Any) -> bool:
        read = final(run)[field]
        is_base = baseline(played).items() <= read.items()
        return is_base and all(name in read for name in has) and not any(name in read for name in lacks)

    return check


def _reads_apart(played: Played, run: Run, _: Any) -> bool:
    read = final(run)["per_instance_metadata"]
    held = [{name: value for name, value in one.items() if name not in baseline(played)} for one in read]
    return len(held) > 1 and _are_disjoint(held)


def _stable_baseline(played: Played, run: Run, _: Any) -> bool:
    reads = [final(run)[field] for field in ("attempt_1_read", "downstream_read")]
    return bool(baseline(played)) and all(baseline(played).items() <= read.items() for read in reads)


def _direct(is_so: Callable[[Any, Any], bool]) -> Check:
    def check(played: Played, _run: Run, _: Any) -> bool:
        assert played.direct is not None
        return is_so(*played.direct)

    return check


def _langfuse_id(played: Played, run: Run, *, is_uuid: bool) -> bool:
    given = played.case.values["caller_invocation_id"]
    derived = trace_id(run.forest.roots[0].of("invocation_id"))
    return len(derived) == 32 and (derived == given.replace("-", "")) is is_uuid


OF_METADATA: dict[str, Check] = {
    "caller_metadata_cross_cutting": _universal,
    "baseline_caller_metadata_universal": _universal,
    "fan_out_per_instance_metadata_isolation": _isolated(lambda tree: tree.is_instance),
    "parallel_branches_per_branch_metadata_isolation": _isolated(lambda tree: tree.is_branch),
    "per_branch_oa_emitted_branch_name_isolation": _branch_names,
    "open_span_update_reaches_invocation_and_node_spans": _updated_while_open,
    "langfuse_trace_id_is_uuid_hex_dashes_stripped": lambda played, run, _: _langfuse_id(played, run, is_uuid=True),
    "langfuse_trace_id_is_sha256_first16_hex": lambda played, run, _: _langfuse_id(played, run, is_uuid=False),
    "raw_invocation_id_in_trace_metadata": lambda _p, run, _: (
        trace_metadata(run.forest.roots[0]).get("invocation_id") == run.invocation_id
    ),
    "outer_dispatch_span_carries_inner_augmentation": _outer_carry,
    "outer_fan_out_instance_carries_branch_augmentation": _outer_carry,
    "outer_dispatch_spans_isolated": _outer_are_apart,
    "sibling_outer_instances_isolated": _outer_are_apart,
    "sibling_fan_out_instances_isolated": _outer_are_apart,
    "shared_parent_spans_not_augmented": _shared_are_bare,
    "sibling_branch_isolated_from_probe_augmentation": _sibling_branch_is_bare,
    "serial_subgraph_wrapper_carries_inner_augmentation": _wrapper_carries_last,
    "fan_out_node_shared_parent_not_augmented": _fork_is_bare,
    "invocation_span_not_augmented": _root_is_bare,
    "read_returns_caller_baseline": _reads("captured_metadata"),
    "read_returns_in_node_write": _reads("captured_metadata", has=["audit_kind"]),
    "read_returns_immutable_mapping": lambda played, _r, _: (
        bool(played.world.are_immutable) and all(played.world.are_immutable)
    ),
    "per_instance_reads_isolated_from_siblings": _reads_apart,
    "outermost_read_sees_pre_fan_out_baseline_only": _reads("outermost_metadata", lacks=["item_id"]),
    "no_global_aggregator_layered_across_join": _reads("outermost_metadata", lacks=["item_id"]),
    "prior_failed_attempt_writes_discarded": _reads("attempt_1_read", lacks=["attempt_marker"]),
    "successful_attempt_writes_visible_downstream": _reads("downstream_read", has=["attempt_marker"]),
    "caller_baseline_stable_across_attempts": _stable_baseline,
    "capture_after_augment_sees_write": _reads("captured", has=["marker"]),
    "capture_before_augment_misses_write": _reads("captured", lacks=["marker"]),
    "outside_invocation_returns_empty_mapping": _direct(lambda value, _e: dict(value) == {}),
    "outside_invocation_does_not_raise": _direct(lambda _v, error: error is None),
    "outside_invocation_return_is_immutable": _direct(lambda value, _e: isinstance(value, MappingProxyType)),
}
