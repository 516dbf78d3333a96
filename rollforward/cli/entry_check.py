"""What a graph that begins with a fan-out makes of its items, found out before a run of it is kept."""

from orchestrator.errors import CallerError, ItemRefused, NodeException
from orchestrator.fan_out.plan import check_items
from orchestrator.graph.graph import Graph
from orchestrator.graph.node import FanOutNode
from orchestrator.state import State
from rollforward.cli.first_state import FirstState
from rollforward.cli.item_file import InputFileRefused


class LineRefused(CallerError):
    """An item that a line of a file gave; the category is that of the refusal."""

    def __init__(self, place: str, error: ItemRefused) -> None:
        self.category = error.category
        super().__init__(f"{place}: {error}")


def check_entry(graph: Graph, state: State, first: FirstState, *, max_item_bytes: int) -> None:
    """See that the first node can take its items, where that is a fan-out; later nodes are found out by the run.

    Raises:
        ItemRefused, LineRefused: an item is none for its instance; the sentence names which.
        InputFileRefused: the file of the items is empty, and the fan-out needs one.
        NodeException: the fan-out cannot be planned.
    """
    node = graph.nodes[graph.entry]
    if not isinstance(node, FanOutNode) or node.items_field is None:
        return
    _check_not_empty(node, first)
    try:
        check_items(node, state, max_item_bytes=max_item_bytes)
    except ItemRefused as error:
        place = first.line_of(error.index) if node.items_field == first.into else None
        if place is None:
            raise
        raise LineRefused(place, error) from error
    except (NodeException, CallerError):
        raise
    except Exception as error:
        # The user's functions that name an item or say the concurrency.
        raise NodeException(node.name, error, recoverable_state=state) from error


def _check_not_empty(node: FanOutNode, first: FirstState) -> None:
    is_from_file = first.item_file is not None and node.items_field == first.into
    if is_from_file and not first.lines and node.on_empty == "raise":
        raise InputFileRefused(
            f"{first.item_file} has no items, and node {node.name!r} needs at least one; put one into it, or give the "
            'node on_empty="noop"'
        )
