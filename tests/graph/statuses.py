"""Graphs whose instances do as their item says: `ok`, `fail`, `flaky` (fails once in each delivery), `wait`, `say`,
`unfit` (its state does not travel).

Where one of them gives a fan-out up, it does so once the `gate` is opened.
"""

import asyncio
import math
import os
from typing import Annotated, Any, Literal

from rollforward import (
    END,
    BranchSpec,
    CompiledGraph,
    GraphBuilder,
    RetryMiddleware,
    State,
    append,
    current_attempt_index,
    deterministic_backoff,
    instance_logger,
)

gate = asyncio.Event()


class File(State):
    act: str = "ok"
    pid: int = 0
    found: dict[str, Any] = {}


class Files(State):
    acts: list[str] = []
    pids: Annotated[list[int], append] = []
    more: Annotated[list[int], append] = []
    failures: list[dict[str, Any]] = []


class Folders(State):
    folders: list[list[str]] = []
    pids: Annotated[list[list[int]], append] = []


async def work(file: File) -> dict[str, Any]:
    if file.act == "fail" or (file.act == "flaky" and current_attempt_index() == 0):
        raise ValueError(f"{file.act}, password=hunter2")
    if file.act == "say":
        instance_logger().info("said by an instance")
    if file.act == "wait":
        await asyncio.sleep(60)
    if file.act == "unfit":
        return {"pid": os.getpid(), "found": {"mean": math.nan}}
    return {"pid": os.getpid()}


async def prepare(_files: Files) -> dict[str, Any]:
    return {}


retry = RetryMiddleware(max_attempts=2, backoff=deterministic_backoff(0), classifier=lambda _error, _state: True)


def file_graph(name: str) -> CompiledGraph[File]:
    builder = GraphBuilder(File).add_node("work", work, middleware=[retry]).set_entry("work").add_edge("work", END)
    return builder.compile(name)


def files_graph(
    name: str, error_policy: Literal["collect", "fail_fast"], *, concurrency: int = 10
) -> CompiledGraph[Files]:
    """A node, then two fan-outs over the same items."""
    builder = GraphBuilder(Files).add_node("prepare", prepare).set_entry("prepare").add_edge("prepare", "files")
    for node, target in (("files", "pids"), ("again", "more")):
        builder.add_fan_out_node(
            node,
            subgraph=file_graph(f"{name}_{node}"),
            items_field="acts",
            item_field="act",
            collect_field="pid",
            target_field=target,
            key=lambda act: f"the {act} one",
            tags={"act": lambda act: act, "length": len},
            error_policy=error_policy,
            concurrency=concurrency,
        )
    return builder.add_edge("files", "again").add_edge("again", END).compile(name)


def one_fan_out(name: str, *middleware: Any) -> CompiledGraph[Files]:
    """A fan-out over the items, and nothing else."""
    builder = GraphBuilder(Files).add_fan_out_node(
        "files",
        subgraph=file_graph(f"{name}_file"),
        items_field="acts",
        item_field="act",
        collect_field="pid",
        target_field="pids",
        middleware=middleware,
    )
    return builder.set_entry("files").add_edge("files", END).compile(name)


collecting = files_graph("statuses_collecting", "collect")
strict = files_graph("statuses_strict", "fail_fast")
one_by_one = files_graph("statuses_one_by_one", "fail_fast", concurrency=1)
folder = one_fan_out("statuses_folder")
nested = (
    GraphBuilder(Folders)
    .add_fan_out_node(
        "folders",
        subgraph=folder,
        items_field="folders",
        item_field="acts",
        collect_field="pids",
        target_field="pids",
    )
    .set_entry("folders")
    .add_edge("folders", END)
    .compile("statuses_nested")
)


async def fail_at_the_gate(_files: Files) -> dict[str, Any]:
    await gate.wait()
    raise ValueError("beside it")


async def give_up_at_the_gate(state: Any, call_next: Any) -> Any:
    running = asyncio.ensure_future(call_next(state))
    await gate.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return {}


failing = GraphBuilder(Files).add_node("fail", fail_at_the_gate).set_entry("fail").add_edge("fail", END)
beside = (
    GraphBuilder(Files)
    .add_parallel_branches_node(
        "both",
        branches={
            "left": BranchSpec(subgraph=folder, inputs={"acts": "acts"}, outputs={"pids": "pids"}),
            "right": BranchSpec(subgraph=failing.compile("statuses_failing"), inputs={}, outputs={}),
        },
    )
    .set_entry("both")
    .add_edge("both", END)
    .compile("statuses_beside")
)
given_up = one_fan_out("statuses_given_up", give_up_at_the_gate)
