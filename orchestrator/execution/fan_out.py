"""How a fan-out node is stepped: plan, run the instances, fan in."""

from typing import TYPE_CHECKING, Any

from orchestrator.errors import NodeException
from orchestrator.execution.frame import Frame
from orchestrator.fan_out.fan_in import fan_in
from orchestrator.fan_out.plan import Plan, make_plan
from orchestrator.tracing.current import current_span

if TYPE_CHECKING:
    from orchestrator.graph.node import FanOutNode
    from orchestrator.state import State


async def run_fan_out(node: "FanOutNode", state: "State", frame: Frame) -> dict[str, Any]:
    """Run the instances of a fan-out node, and fold their contributions into its partial update."""
    plan = make_plan(node, state, frame.journal.enter(frame, node.name))
    _note(plan)
    if plan.count == 0:
        return _empty(node, state)
    return fan_in(node, await frame.fan_outs.run(plan, frame))


def _note(plan: Plan) -> None:
    limit = plan.concurrency if isinstance(plan.concurrency, int) else 0
    current_span().note(
        {
            "fan_out.item_count": plan.count,
            "fan_out.concurrency": limit,
            "fan_out.error_policy": plan.node.error_policy,
        }
    )


def _empty(node: "FanOutNode", state: "State") -> dict[str, Any]:
    if node.on_empty == "raise":
        reason = 'it has no items; pass on_empty="noop" where that is fine'
        raise NodeException(node.name, reason, recoverable_state=state, fan_out_category="fan_out_empty")
    return fan_in(node, ())
