"""Bringing a state that was kept under an older schema to the schema of today."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import TypeVar

from orchestrator.errors import CallerError, CheckpointRecordInvalid, StateValidationError
from orchestrator.state import State
from orchestrator.tracing.current import current_span

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

StateT = TypeVar("StateT", bound=State, default=State)

Migrate = Callable[[dict[str, Any]], Mapping[str, Any]]
"""A pure function of a state's JSON object that gives the next version's."""


class StateMigrationMissing(CallerError):
    """No migration leads from a kept state's version to today's."""

    category = "checkpoint_state_migration_missing"

    def __init__(self, from_version: str, to_version: str, registered_migrations_count: int) -> None:
        self.from_version = from_version
        self.to_version = to_version
        self.registered_migrations_count = registered_migrations_count
        super().__init__(
            f"no chain of the {registered_migrations_count} registered state migrations leads from version "
            f"{from_version!r} to {to_version!r}; register one, or resume with the old code"
        )


class StateMigrationFailed(CallerError):
    """A migration raised; the cause is what it raised."""

    category = "checkpoint_state_migration_failed"

    def __init__(self, from_version: str, to_version: str, cause: BaseException) -> None:
        self.from_version = from_version
        self.to_version = to_version
        super().__init__(
            f"the state migration from {from_version!r} to {to_version!r} raised {type(cause).__name__}: {cause}; "
            "mend it"
        )


class StateMigrationAmbiguous(CallerError):
    """Several chains of migrations are equally short."""

    category = "checkpoint_state_migration_chain_ambiguous"

    def __init__(self, from_version: str, to_version: str) -> None:
        self.from_version = from_version
        self.to_version = to_version
        super().__init__(
            f"several equally short chains of state migrations lead from {from_version!r} to {to_version!r}; keep one"
        )


@dataclass(frozen=True, slots=True)
class StateMigration:
    """Leads from one `schema_version` to another."""

    from_version: str
    to_version: str
    migrate: Migrate


class StateMigrations:
    """The migrations of a graph, for its own state and for those of the graphs inside it.

    Raises:
        StateMigrationAmbiguous: two lead from one version to the same other one.
    """

    def __init__(self, migrations: Sequence[StateMigration] = ()) -> None:
        self._by_source: dict[str, dict[str, StateMigration]] = {}
        self.count = len(migrations)
        for one in migrations:
            known = self._by_source.setdefault(one.from_version, {})
            if one.to_version in known:
                raise StateMigrationAmbiguous(one.from_version, one.to_version)
            known[one.to_version] = one

    def leads(self, from_version: str, to_version: str) -> bool:
        """Whether there is a way from one version to the other."""
        return any(path for path in self._shortest(from_version, to_version))

    def path(self, from_version: str, to_version: str) -> list[StateMigration]:
        """The shortest chain from one version to another, found breadth first.

        Raises:
            StateMigrationMissing: there is none.
            StateMigrationAmbiguous: several are equally short.
        """
        found = self._shortest(from_version, to_version)
        if not found:
            raise StateMigrationMissing(from_version, to_version, self.count)
        if len(found) > 1:
            raise StateMigrationAmbiguous(from_version, to_version)
        return found[0]

    def _shortest(self, from_version: str, to_version: str) -> list[list[StateMigration]]:
        chains: list[list[StateMigration]] = [[]]
        seen = {from_version}
        while chains:
            chains = [[*chain, one] for chain in chains for one in self._out_of(chain, from_version, seen)]
            seen |= {chain[-1].to_version for chain in chains}
            found = [chain for chain in chains if chain[-1].to_version == to_version]
            if found:
                return found
        return []

    def _out_of(self, chain: list[StateMigration], start: str, seen: set[str]) -> Iterator[StateMigration]:
        version = chain[-1].to_version if chain else start
        yield from (one for target, one in self._by_source.get(version, {}).items() if target not in seen)


def load_state(graph: "Graph[StateT]", text: str, version: str, migrations: StateMigrations) -> StateT:
    """The state of a graph that was kept as `text` under `version`; migrations are asked only where it differs.

    Raises:
        StateMigrationMissing, StateMigrationAmbiguous, StateMigrationFailed: it cannot be brought to today's version.
        CheckpointRecordInvalid: what the migrations gave does not fit the class.
    """
    today = graph.state_class.schema_version
    if version == today:
        return graph.codec.load(text)
    value = json.loads(text)
    path = migrations.path(version, today)
    for one in path:
        value = _migrated(one, value)
    try:
        state = graph.codec.load(json.dumps(value))
    except StateValidationError as error:
        told = f"a state of version {version!r} was brought to {today!r}, and there: {error}; mend the migration"
        raise CheckpointRecordInvalid(told) from error
    current_span().migrated(version, today, chain_length=len(path))
    return state


def _migrated(one: StateMigration, value: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(one.migrate(value))
    except Exception as error:
        raise StateMigrationFailed(one.from_version, one.to_version, error) from error
