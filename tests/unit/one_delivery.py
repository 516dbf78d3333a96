"""The only instance of a fan-out, as a worker is handed it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.execution.briefing import Briefing
from orchestrator.identity import FanOutKey, Slot
from orchestrator.ledger.claim import Claimed


def delivery(
    graph: Any, node: str, item: Mapping[str, Any], *, progress: Sequence[bytes] = ()
) -> tuple[Claimed, Briefing]:
    """What is handed out with the item, with what earlier deliveries have told."""
    key = FanOutKey((), node)
    briefing = Briefing(
        run_id="r",
        invocation_id="i",
        correlation_id="c",
        graph=graph.name,
        fingerprint=graph.fingerprint,
        fan_out=key,
        inputs="{}",
        instance_count=1,
        max_result_bytes=8_388_608,
    )
    work = Claimed(
        run_id="r",
        slot=Slot(key.id, 0),
        token="t",
        delivery=1,
        briefing_hash="",
        item=json.dumps(item).encode(),
        progress=tuple(progress),
    )
    return work, briefing
