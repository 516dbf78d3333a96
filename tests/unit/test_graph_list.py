"""The graphs of a process."""

import pytest

from orchestrator.graph.registry import registry
from workers.graph_list import GraphModuleBroken, load_graphs
from workers.settings import Settings


def test_a_module_of_the_current_folder_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "graphs_of_here.py").write_text("from tests.graph.tiny import graph\n")
    load_graphs(["graphs_of_here"])
    assert "tiny" in {name for name, _ in registry.known()}


def test_a_function_is_known_as_the_graph_that_maps_it():
    load_graphs(["tests.graph.shout:shout"])
    assert any("shout" in name for name, _ in registry.known())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("tests.graph.absent", "ModuleNotFoundError"),
        ("tests.graph.broken", "ZeroDivisionError"),
        ("tests.graph.shout:absent", "no function 'absent'"),
    ],
)
def test_an_entry_that_cannot_be_had_is_named_with_the_reason(entry, reason):
    with pytest.raises(GraphModuleBroken, match=reason) as caught:
        load_graphs([entry])
    assert entry in str(caught.value)


def test_entries_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("ROLLFORWARD_GRAPHS", "one, two:function")
    assert Settings().graphs == ("one", "two:function")


@pytest.mark.parametrize("call", ["map(print, [1])", "start_map(print, [1]).__aenter__().send(None)"])
def test_a_module_that_maps_while_it_is_imported_is_told_to_guard_the_call(call, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"bare_{call.partition('(')[0]}"
    (tmp_path / f"{name}.py").write_text(f"import rollforward\nrollforward.{call}\n")
    with pytest.raises(GraphModuleBroken, match="guard the call by"):
        load_graphs([name])
