"""What the campaigns came to, in lines."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.process.campaign import Campaign
from tests.chaos.process.size import DEFAULT
from tests.chaos.process.table import table, too_late
from tests.chaos.process.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Summary:
    lines: tuple[str, ...]
    is_good: bool


def summary(campaigns: Sequence[Campaign], *, is_whole: bool) -> Summary:
    """All of them together; `is_whole` unless the last one was broken off, and not judged."""
    verdict = sum((campaign.verdict for campaign in campaigns), Verdict())
    faults = [fault for campaign in campaigns for fault in campaign.faults]
    late = list(too_late(faults))
    kinds = " ".join(f"{kind}={count}" for kind, count in sorted(Counter(fault.kind for fault in faults).items()))
    lines = (
        *verdict.wrong,
        *late,
        f"kills={len(faults)}: {kinds}",
        f"runs={verdict.runs} instances={verdict.instances} executions={verdict.executions} wasted={verdict.wasted}",
        f"lost={verdict.lost} duplicated={verdict.duplicated} hung={verdict.hung} violations={len(verdict.wrong)}",
        *table(faults, lease_seconds=DEFAULT.lease_seconds),
        *(() if is_whole else ("broken off: the deployment that was under way is not judged",)),
    )
    return Summary(lines, is_good=is_whole and verdict.is_good and not late)
