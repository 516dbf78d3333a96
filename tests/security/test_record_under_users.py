"""The contract of checkpoint stores, under the Redis user of those who own runs.

But for `seed`, by which no process of a deployment brings a record from elsewhere: it needs EVAL, which none may do.
"""

from collections.abc import AsyncIterator

import pytest

from backends.checkpointers.redis.store import RedisStore
from tests.contract.checkpoint_case import Place
from tests.contract.test_checkpoint_creation import *  # noqa: F403 - all that it promises holds under this user as well
from tests.contract.test_checkpoint_load import (
    test_how_far_a_failed_instance_came_is_part_of_the_record,  # noqa: F401 - the same, of what is not about `seed`
)
from tests.contract.test_checkpoint_record import *  # noqa: F403 - the same
from tests.contract.test_checkpoint_store import *  # noqa: F403 - the same
from tests.security.users import GuardedRedis

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture
async def place(guarded: GuardedRedis) -> AsyncIterator[Place]:
    made = Place("redis", lambda: RedisStore(guarded.url_of("orchestrator"), namespace="rollforward"))
    yield made
    await made.close()
