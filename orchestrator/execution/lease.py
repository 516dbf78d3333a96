"""How the owner of a run keeps its lease, and learns that it has lost it or is to cancel."""

import asyncio
import logging
from collections.abc import Callable

from orchestrator.checkpoint.protocol import RunStore
from orchestrator.checkpoint.row import Ownership
from orchestrator.errors import Fenced, OperatorError, RollforwardError, RunCancelled
from orchestrator.execution.lane import Options

log = logging.getLogger(__name__)


async def keep_lease(
    store: RunStore,
    ownership: Ownership,
    options: Options,
    *,
    health: Callable[[], str | None],
    stop: Callable[[RollforwardError], None],
) -> None:
    """Renew the lease until this is cancelled; call `stop` where the run is another's, or is to be cancelled.

    While the store is away the lease may lapse: whoever renews first with the same epoch has it still, and every
    write checks that epoch.
    """
    while True:
        try:
            renewal = await store.renew(ownership, lease=options.lease, health=health())
        except OperatorError as error:
            log.warning("lease not renewed", extra={"run_id": ownership.run_id, "reason": str(error)})
        except Fenced as error:
            stop(error)
            return
        except Exception:
            log.exception("lease not renewed", extra={"run_id": ownership.run_id})
        else:
            if renewal.is_cancel_requested:
                stop(RunCancelled(ownership.run_id))
                return
        await asyncio.sleep(options.renew_every.total_seconds())
