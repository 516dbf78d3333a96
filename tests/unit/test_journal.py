"""What a run takes up again after a crash: where each graph was, and which entry of a fan-out it was in."""

from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.execution.journal import next_visits, points
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import EnclosingInstance, FanOutKey


def steps(*paths: str) -> list[Step]:
    """Steps in this order; `outer/inner` is the node `inner` inside the node `outer`."""
    split = [path.split("/") for path in ("", *paths)]
    return [
        Step(position=at, namespace=tuple(names[:-1]), node=names[-1], state="{}") for at, names in enumerate(split)
    ]


def where(*paths: str) -> dict[tuple[str, ...], str]:
    return {namespace: step.node for namespace, step in points(steps(*paths)).items()}


def entry(visit: int, *, position: int, folded: bool = False) -> FanOutRow:
    key = FanOutKey((), "wide", (), visit)
    fold = Fold(key.id, 0, "") if folded else None
    return FanOutRow(key=key, instance_count=0, item_hashes=b"", position=position, fold=fold)


class TestPoints:
    def test_a_run_that_has_done_nothing_begins_at_its_entry(self):
        assert where() == {}

    def test_the_last_completed_node_is_where_it_was(self):
        assert where("a", "b") == {(): "b"}

    def test_a_subgraph_that_is_open_has_a_place_of_its_own(self):
        assert where("a", "sub/x") == {(): "a", ("sub",): "x"}

    def test_a_completed_subgraph_is_closed_with_all_inside_it(self):
        assert where("a", "sub/deep/x", "sub/deep", "sub/y", "sub") == {(): "sub"}

    def test_a_loop_that_enters_a_subgraph_again_is_in_its_second_turn(self):
        assert where("sub/x", "sub/y", "sub", "check", "sub/x") == {(): "check", ("sub",): "x"}


class TestVisits:
    def test_an_entry_that_was_not_folded_is_entered_again(self):
        assert next_visits(steps("a"), [entry(0, position=2)]) == {((), "wide"): 0}

    def test_a_folded_one_is_over(self):
        assert next_visits(steps("a", "wide"), [entry(0, position=2, folded=True)]) == {((), "wide"): 1}

    def test_of_several_the_last_counts(self):
        rows = [entry(1, position=4), entry(0, position=2, folded=True)]
        assert next_visits(steps("a", "wide", "check"), rows) == {((), "wide"): 1}

    def test_one_whose_node_completed_without_it_is_over(self):
        rows = [entry(0, position=2)]
        assert next_visits(steps("a", "wide", "check"), rows) == {((), "wide"): 1}

    def test_a_step_of_an_earlier_turn_does_not_end_it(self):
        rows = [entry(0, position=1, folded=True), entry(1, position=3)]
        assert next_visits(steps("wide", "check"), rows) == {((), "wide"): 1}

    def test_those_inside_an_instance_are_counted_by_the_instance(self):
        inside = FanOutKey(("wide",), "inner", (EnclosingInstance((), "wide", 3),))
        row = FanOutRow(key=inside, instance_count=0, item_hashes=b"")
        assert next_visits(steps("a"), [row]) == {}
