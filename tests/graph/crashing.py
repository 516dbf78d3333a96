"""A graph whose node fails until a file `tool` lies in the working folder."""

from pathlib import Path

from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.state import State


class Job(State):
    """What is to be done, and whether it is."""

    is_done: bool = False


def use_tool(_job: Job) -> dict[str, bool]:
    """Do the job, with the tool."""
    if not Path("tool").exists():
        raise RuntimeError("the tool is missing")
    return {"is_done": True}


graph = GraphBuilder(Job).add_node("use_tool", use_tool).set_entry("use_tool").add_edge("use_tool", END).compile()
