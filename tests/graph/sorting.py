"""The example that asks a model, with an observer that writes down every call to the file LLM_OVERHEARD names."""

import json

from examples.llm_fan_out import graph
from orchestrator.llm.event import LlmEvent, LlmFailedEvent
from orchestrator.observers.event import Event
from tests.graph.witnessed import write_line

__all__ = ["graph"]


async def write_down(event: Event) -> None:
    assert isinstance(event, LlmEvent)
    category = event.error.category if isinstance(event, LlmFailedEvent) else None
    place = [event.run_id, "/".join(event.namespace), event.fan_out_index, event.attempt_index]
    told = [*place, category, event.usage.total_tokens, event.messages]
    write_line(json.dumps(told), "LLM_OVERHEARD")


graph.attach_observer(write_down, phases=("llm",))
