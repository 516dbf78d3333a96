"""Many instances without any fault, of whose messages some come twice: not one may be executed twice."""

from pathlib import Path

from tests.chaos.process.deployment import Deployment
from tests.chaos.process.size import Size
from tests.chaos.process.verdict import Verdict, judged

SIZE = Size(workers=4, processes=2, orchestrators=2, runs=1, instances=10_000, concurrency=64, seconds=0.0)
SHARE = 0.05
END_SECONDS = 600.0


async def play(folder: Path, *, size: Size, seed: int) -> tuple[Verdict, int]:
    """Run them; the verdict, and how many messages came twice."""
    deployment = Deployment(folder, size=size, seed=seed, postgres=None, duplicates=SHARE)
    try:
        await deployment.start()
        await deployment.submit(size.instances)
        await deployment.until_over(END_SECONDS)
        return await judged(deployment, size.instances, ()), deployment.relay.duplicated
    finally:
        await deployment.close()
