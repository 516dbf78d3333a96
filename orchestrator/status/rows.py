"""Status rows as people work with them: a sequence, or a table of pyarrow or pandas where that is installed."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, overload

from orchestrator.errors import CallerError
from orchestrator.status.row import StatusRow

_TEXTS = (
    *("run_id", "invocation_id", "correlation_id", "node_path", "key", "worker"),
    *("error_category", "error_type", "error_message"),
)


class PackageMissing(CallerError):
    """A package that makes tables is not installed."""

    category = "package_missing"

    def __init__(self, package: str) -> None:
        self.package = package
        super().__init__(f"this table needs {package}, which is not installed: pip install 'rollforward[tables]'")


class StatusRows(Sequence[StatusRow]):
    """Rows in order of their sequence."""

    def __init__(self, rows: Iterable[StatusRow] = ()) -> None:
        self._rows = tuple(rows)

    @overload
    def __getitem__(self, index: int) -> StatusRow: ...

    @overload
    def __getitem__(self, index: slice) -> "StatusRows": ...

    def __getitem__(self, index: int | slice) -> "StatusRow | StatusRows":
        return StatusRows(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"StatusRows({list(self._rows)!r})"

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`: one column a field, tags as a map, the lineage as a list of its levels.

        Raises:
            PackageMissing: pyarrow is not installed.
        """
        pyarrow = _package("pyarrow")
        return pyarrow.Table.from_pylist([_fields(row) for row in self._rows], schema=_schema(pyarrow))

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` of the same columns, with the tags as dictionaries.

        Raises:
            PackageMissing: pandas or pyarrow is not installed.
        """
        _package("pandas")
        return self.to_arrow().to_pandas(maps_as_pydicts="strict")


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise PackageMissing(name) from error


def _fields(row: StatusRow) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in _TEXTS},
        **{name: getattr(row, name) for name in ("sequence", "index", "attempt", "delivery", "at", "duration_seconds")},
        "node": list(row.node),
        "lineage": [{"node": level.node, "index": level.index, "branch": level.branch} for level in row.lineage],
        "state": row.state.value,
        "tags": list(row.tags.items()),
    }


def _schema(pyarrow: Any) -> Any:
    text, number = pyarrow.string(), pyarrow.int64()
    level = pyarrow.struct([("node", text), ("index", number), ("branch", text)])
    types = {
        "sequence": number,
        **dict.fromkeys(("run_id", "invocation_id", "correlation_id", "node_path"), text),
        "node": pyarrow.list_(text),
        "lineage": pyarrow.list_(level),
        "index": number,
        "key": text,
        "state": text,
        "attempt": number,
        "delivery": number,
        "worker": text,
        "at": pyarrow.timestamp("us", tz="UTC"),
        "duration_seconds": pyarrow.float64(),
        **dict.fromkeys(("error_category", "error_type", "error_message"), text),
        "tags": pyarrow.map_(text, text),
    }
    return pyarrow.schema(list(types.items()))
