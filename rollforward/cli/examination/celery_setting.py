"""How Celery is set, with the graphs of this process imported."""

from collections.abc import Iterator
from datetime import timedelta

from orchestrator.graph.enclosing import inner_graphs
from orchestrator.graph.node import FanOutNode
from orchestrator.graph.registry import registry
from rollforward.cli.aside import stdout_aside
from rollforward.cli.examination.finding import Finding, refused, warning, well
from rollforward.cli.output import counted
from workers.configuration import celery_configuration
from workers.content import unsafe_content
from workers.graph_list import load_graphs
from workers.settings import Settings


def graph_list(settings: Settings) -> Iterator[Finding]:
    """Whether the modules of ROLLFORWARD_GRAPHS import here; what comes after examines what they brought."""
    with stdout_aside():
        load_graphs(settings.graphs)
    yield well("graph_list", f"{counted(len(registry.known()), 'graph')} of {counted(len(settings.graphs), 'module')}")


def content(settings: Settings) -> Iterator[Finding]:
    """Whether anything but plain JSON is read from messages."""
    unsafe = unsafe_content(settings)
    if unsafe:
        way_out = "take what enables it out of the modules of ROLLFORWARD_GRAPHS, and of what they import"
        yield refused("serializers", f"{', '.join(unsafe)}: a message may run code here", way_out)
    else:
        yield well("serializers", "JSON only")


def visibility_timeout(settings: Settings) -> Iterator[Finding]:
    """Whether Celery delivers an instance again that still runs within its limit."""
    told = celery_configuration(settings)["broker_transport_options"].get("visibility_timeout")
    if told is None:
        yield well("visibility_timeout", "the broker has none")
        return
    timeout = timedelta(seconds=told)
    limits = dict(_limits(settings))
    longest = max(limits, key=lambda name: limits[name], default=None)
    if longest is None or limits[longest] < timeout:
        shown = f"the longest limit is {limits[longest]}" if longest else "no instance has a limit"
        yield well("visibility_timeout", f"{timeout}; {shown}")
    else:
        found = f"{timeout}, and {longest} may run for {limits[longest]}: Celery delivers it again while it runs"
        yield warning("visibility_timeout", found, f"make that limit less than {timeout}, and the instances smaller")


def _limits(settings: Settings) -> Iterator[tuple[str, timedelta]]:
    if settings.hard_limit_seconds is not None:
        yield "ROLLFORWARD_HARD_LIMIT_SECONDS", timedelta(seconds=settings.hard_limit_seconds)
    for name, fingerprint in registry.known():
        for graph in inner_graphs(registry.find(name, fingerprint)):
            for node in graph.nodes.values():
                if isinstance(node, FanOutNode) and node.time_limit is not None:
                    yield f"{name}/{node.name}", node.time_limit
