"""A graph as users name it on the command line: `MODULE:GRAPH`."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.errors import CallerError
from orchestrator.execution.mapping import map_graph
from orchestrator.graph.graph import Graph
from orchestrator.graph.node import FunctionNode
from workers.graph_list import importing


class GraphNotLoaded(CallerError):
    """The module or the graph in it cannot be had; the cause is what Python said."""

    category = "graph_not_loaded"


@dataclass(frozen=True, slots=True)
class GraphAddress:
    """A module on the import path, and the variable in it that holds the compiled graph, or a function to map."""

    path: str
    variable: str

    def __str__(self) -> str:
        return f"{self.path}:{self.variable}"

    @property
    def module(self) -> str:
        """What workers list in ROLLFORWARD_GRAPHS for it: the module, and its function where it is loaded as one."""
        found = getattr(sys.modules.get(self.path), self.variable, None)
        return str(self) if inspect.isfunction(found) else self.path

    @classmethod
    def parse(cls, text: str) -> "GraphAddress":
        """Read `package.module:variable`.

        Raises:
            GraphNotLoaded: it is something else.
        """
        module, _, variable = text.partition(":")
        if not all(part.isidentifier() for part in module.split(".")) or not variable.isidentifier():
            raise GraphNotLoaded(f"{text!r} names no graph; write MODULE:GRAPH, as in examples.word_count:graph")
        return cls(module, variable)

    def load(self) -> Graph:
        """Import the module, with the current folder on the import path, and take the graph from it.

        A function gives the graph that maps it, unless it is a node of a graph there.

        Raises:
            GraphNotLoaded: there is no such module or graph, or the module fails to import.
        """
        module = import_module(self.path)
        graph = getattr(module, self.variable, None)
        if isinstance(graph, Graph):
            return graph
        graphs = {name: value for name, value in vars(module).items() if isinstance(value, Graph)}
        if inspect.isfunction(graph) and not _is_node(graph, graphs.values()):
            return self._mapped(graph)
        what = "is not a compiled graph; call its compile()" if graph is not None else "does not exist"
        hint = f"; the module has {', '.join(graphs)}" if graphs else ""
        raise GraphNotLoaded(f"{self} {what}{hint}")

    def _mapped(self, function: Callable[..., Any]) -> Graph:
        try:
            return map_graph(function)
        except (TypeError, NameError) as error:
            raise GraphNotLoaded(f"{self} is a function that cannot be mapped: {error}") from error


def _is_node(function: Callable[..., Any], graphs: Iterable[Graph]) -> bool:
    nodes = (node for graph in graphs for node in graph.nodes.values())
    return any(isinstance(node, FunctionNode) and node.function is function for node in nodes)


def import_module(name: str) -> ModuleType:
    """Import a user's module, with the current folder on the import path.

    Raises:
        GraphNotLoaded: there is none, or it fails to import.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with importing():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise GraphNotLoaded(
                f"no module {name!r} here; name it as Python imports it, from the folder that holds it"
            ) from error
        raise GraphNotLoaded(_failed(name, error)) from error
    except Exception as error:
        raise GraphNotLoaded(_failed(name, error)) from error


def _failed(name: str, error: Exception) -> str:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({Path(place.tb_frame.f_code.co_filename).name}, line {place.tb_lineno})" if place else ""
    if isinstance(error, SyntaxError):
        where = ""  # its text has the place
    return f"module {name!r} fails to import: {type(error).__name__}: {error}{where}; -v shows where"
