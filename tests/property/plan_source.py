"""The graphs of plans, for workers: each is built from its plan's file when it is first asked for."""

import os
from hashlib import blake2b
from pathlib import Path

from orchestrator.compiled import CompiledGraph
from orchestrator.graph.registry import registry
from tests.property.graph_plan import Level, Wide, Work, from_json, to_json
from tests.property.plan_graph import Bag, graph_of

LABEL = "plan:"
PLANS = "ROLLFORWARD_PROPERTY_PLANS"
"""The environment variable with the folder of the plans."""


def written(level: Level, folder: Path) -> CompiledGraph[Bag]:
    """The graph of a plan that workers find in that folder."""
    text = to_json(level)
    name = blake2b(text.encode(), digest_size=8).hexdigest()
    (folder / name).write_text(text)
    return graph_of(level, "plan", label=f"{LABEL}{name}")


def built(label: str) -> CompiledGraph[Bag]:
    """The graph of the plan in the file that its name says."""
    file = Path(os.environ[PLANS]) / label.removeprefix(LABEL)
    return graph_of(from_json(file.read_text()), "plan", label=label)


# A worker takes from the queues of the graphs that it has when it starts.
graph_of(Level((Wide(1, Level((Work(),)), "collect"),)), "any")
registry.add_source(LABEL, built)
