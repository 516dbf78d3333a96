"""What a fan-out is to do: decided once from the state, before anything is dispatched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.checkpoint.row import FanOutRow
from orchestrator.codec import Codec
from orchestrator.errors import CallerError, CheckpointRecordInvalid, ItemRefused, NodeException, PayloadTooLarge
from orchestrator.fan_out.entry import MOST_INSTANCES, NO_INPUTS, first_state_hash
from orchestrator.identity import FanOutKey
from orchestrator.reducer import read_key

if TYPE_CHECKING:
    from orchestrator.graph.node import FanOutNode
    from orchestrator.state import State

LONGEST_KEY = 512
LONGEST_TAG = 256

Concurrency = int | None | Literal["auto"]


class NameTooLong(CallerError):
    """What people are to find an instance by is over the limit."""

    category = "name_too_long"

    def __init__(self, what: str, length: int, limit: int) -> None:
        self.length = length
        self.limit = limit
        super().__init__(f"its {what} has {length} characters, the limit is {limit}; give it a shorter one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The instances of one entry of a fan-out node.

    `items` are the typed items; in count mode they are the indexes. `inputs` is what every instance gets, as JSON
    text of the subgraph's codec. `state` is the one that the node was entered with.
    """

    node: "FanOutNode"
    state: "State"
    key: FanOutKey
    items: Sequence[Any]
    item_keys: tuple[str, ...] | None
    inputs: str
    concurrency: Concurrency

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def codec(self) -> Codec:
        return self.node.subgraph.codec

    def item(self, index: int) -> str:
        """The own part of instance `index` in its first state, as JSON text."""
        return self.codec.dump_fields(_own_fields(self.node, self.items[index]))

    def item_key(self, index: int) -> str | None:
        return None if self.item_keys is None else self.item_keys[index]

    def item_tags(self, index: int) -> dict[str, str]:
        return _tags(self.node, index, self.items[index])

    def row(self, *, position: int, max_item_bytes: int) -> FanOutRow:
        """What is kept of this entry, before anything is dispatched.

        Raises:
            ItemRefused: an item does not fit the subgraph's state, does not survive its codec, or is over the limit,
                or a tag of it is.
        """
        items = (self._checked_item(index, max_item_bytes) for index in range(self.count))
        return self._row(b"".join(first_state_hash(item, NO_INPUTS) for item in items), position=position)

    def nested_row(self) -> FanOutRow:
        """What is kept of this entry inside an instance: whether a later delivery enters the same one, shows here."""
        hashes = (first_state_hash(self.item(index).encode(), self.inputs) for index in range(self.count))
        return self._row(b"".join(hashes), position=0)

    def _row(self, item_hashes: bytes, *, position: int) -> FanOutRow:
        return FanOutRow(
            key=self.key,
            instance_count=self.count,
            item_hashes=item_hashes,
            item_keys=self.item_keys,
            item_tags=_item_tags(self.node, self.items),
            position=position,
        )

    def _checked_item(self, index: int, max_item_bytes: int) -> bytes:
        try:
            item = self.item(index).encode()
            if len(item) > max_item_bytes:
                raise PayloadTooLarge("item", len(item), max_item_bytes)
        except CallerError as error:
            raise ItemRefused(index, error) from error
        return item


def check_items(node: "FanOutNode", state: "State", *, max_item_bytes: int) -> None:
    """See that a fan-out could be entered with this state, before anything is kept.

    Raises:
        NodeException, ItemRefused: as `make_plan` and `Plan.row`.
    """
    make_plan(node, state, FanOutKey((), node.name)).row(position=0, max_item_bytes=max_item_bytes)


def make_plan(node: "FanOutNode", state: "State", key: FanOutKey) -> Plan:
    """Decide what a fan-out is to do.

    Raises:
        NodeException: the count or the concurrency that the state gives cannot be; see `fan_out_category`.
        ItemRefused: the key of an item is too long.
        StateValidationError, StateNotSerializable: an item or an input does not fit the subgraph's state.
    """
    items = _items(node, state)
    return Plan(
        node=node,
        state=state,
        key=key,
        items=items,
        item_keys=_item_keys(node, items),
        inputs=node.subgraph.codec.dump_fields(
            {field: getattr(state, parent) for field, parent in (node.inputs or {}).items()}
        ),
        concurrency=_concurrency(node, state),
    )


def check_drift(plan: Plan, kept: FanOutRow) -> None:
    """See that a resumed fan-out still has the items that it was entered with.

    Raises:
        CheckpointRecordInvalid: another number of items.
    """
    if kept.instance_count != plan.count:
        raise CheckpointRecordInvalid(
            f"fan-out {plan.key.path} was entered with {kept.instance_count} items and has {plan.count} now; "
            "resume it with the items of the first run, or start a new run"
        )


def _items(node: "FanOutNode", state: "State") -> Sequence[Any]:
    if node.items_field is not None:
        items: Sequence[Any] = getattr(state, node.items_field)
        return _no_more_than_allowed(items, node, state)
    count = node.count(state) if callable(node.count) else node.count
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        reason = f"count came to {count!r}; return a whole number from 0"
        raise NodeException(node.name, reason, recoverable_state=state, fan_out_category="fan_out_invalid_count")
    return _no_more_than_allowed(range(count), node, state)


def _no_more_than_allowed(items: Sequence[Any], node: "FanOutNode", state: "State") -> Sequence[Any]:
    if len(items) > MOST_INSTANCES:
        reason = (
            f"it has {len(items)} instances, the most is {MOST_INSTANCES}; make several runs, or nest it in another"
        )
        raise NodeException(node.name, reason, recoverable_state=state, fan_out_category="fan_out_invalid_count")
    return items


def _concurrency(node: "FanOutNode", state: "State") -> Concurrency:
    limit = node.concurrency(state) if callable(node.concurrency) else node.concurrency
    if limit is None or limit == "auto":
        return limit
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        reason = f"concurrency came to {limit!r}; return a whole number from 1, or None for no bound"
        raise NodeException(node.name, reason, recoverable_state=state, fan_out_category="fan_out_invalid_concurrency")
    return limit


def _item_keys(node: "FanOutNode", items: Sequence[Any]) -> tuple[str, ...] | None:
    if node.key is None:
        return None
    key = node.key
    return tuple(_short(index, "key", str(read_key(item, key)), LONGEST_KEY) for index, item in enumerate(items))


def _item_tags(node: "FanOutNode", items: Sequence[Any]) -> tuple[dict[str, str], ...] | None:
    return tuple(_tags(node, index, item) for index, item in enumerate(items)) if node.tags else None


def _tags(node: "FanOutNode", index: int, item: Any) -> dict[str, str]:
    return {
        name: _short(index, f"tag {name!r}", str(read_key(item, reader)), LONGEST_TAG)
        for name, reader in (node.tags or {}).items()
    }


def _short(index: int, what: str, text: str, limit: int) -> str:
    if len(text) > limit:
        raise ItemRefused(index, NameTooLong(what, len(text), limit))
    return text


def _own_fields(node: "FanOutNode", item: Any) -> dict[str, Any]:
    # A fan-out by count may leave the item field undeclared: its instances differ by index only.
    if node.item_field is None or node.item_field not in node.subgraph.state_class.model_fields:
        return {}
    return {node.item_field: item}
