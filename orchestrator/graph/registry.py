"""The graphs that this process knows. A name is looked up, and never imported or walked through."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from orchestrator.errors import GraphNotFound

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

Build = Callable[[str], "Graph[Any]"]


class Registry:
    """Graphs by name and fingerprint; of several with one name, the latest comes first."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._labelled: dict[str, dict[str, Graph[Any]]] = {}
        # One without a label is found by its variable, which keeps it alive.
        self._unlabelled: WeakSet[Graph[Any]] = WeakSet()
        self._sources: dict[str, Build] = {}

    def register(self, graph: "Graph[Any]") -> None:
        """Take note of a graph; one of the same name and fingerprint is replaced."""
        with self._lock:
            if graph.label is None:
                self._unlabelled.add(graph)
            else:
                self._keep(graph.label, graph)

    def add_source(self, prefix: str, build: Build) -> None:
        """Let `build` make the graphs whose names begin with `prefix`, each when it is first asked for."""
        with self._lock:
            self._sources[prefix] = build

    def find(self, name: str, fingerprint: str | None = None) -> "Graph[Any]":
        """The graph of that name; with a fingerprint, exactly that version.

        Raises:
            GraphNotFound: there is none here.
        """
        with self._lock:
            graph = self._known(name, fingerprint) or self._built(name, fingerprint)
        if graph is None:
            raise GraphNotFound(name, fingerprint=fingerprint)
        return graph

    def known(self) -> list[tuple[str, str]]:
        """Name and fingerprint of every graph that is here by now."""
        with self._lock:
            labelled = [(name, fingerprint) for name, found in self._labelled.items() for fingerprint in found]
            return labelled + sorted((graph.name, graph.fingerprint) for graph in self._unlabelled)

    def _known(self, name: str, fingerprint: str | None) -> "Graph[Any] | None":
        versions = self._labelled.get(name, {})
        found = list(reversed(versions.values())) or [graph for graph in self._unlabelled if graph.name == name]
        return next((graph for graph in found if fingerprint in (None, graph.fingerprint)), None)

    def _built(self, name: str, fingerprint: str | None) -> "Graph[Any] | None":
        build = next((build for prefix, build in self._sources.items() if name.startswith(prefix)), None)
        if build is None or name in self._labelled:
            return None
        graph = build(name)
        self._keep(name, graph)
        return graph if fingerprint in (None, graph.fingerprint) else None

    def _keep(self, name: str, graph: "Graph[Any]") -> None:
        versions = self._labelled.setdefault(name, {})
        versions.pop(graph.fingerprint, None)
        versions[graph.fingerprint] = graph


registry = Registry()
"""The graphs of this process: `compile` registers every one."""
