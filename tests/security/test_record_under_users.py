"""The contract of checkpoint stores, under the Redis user of those who own runs."""

from collections.abc import AsyncIterator

import pytest

from backends.checkpointers.redis.store import RedisStore
from tests.contract.checkpoint_case import Place
from tests.contract.test_checkpoint_creation import *  # noqa: F403 - all that it promises holds under this user as well
from tests.contract.test_checkpoint_listing import *  # noqa: F403 - the same
from tests.contract.test_checkpoint_load import *  # noqa: F403 - the same
from tests.contract.test_checkpoint_record import *  # noqa: F403 - the same
from tests.contract.test_checkpoint_store import *  # noqa: F403 - the same
from tests.security.users import GuardedRedis

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture
async def place(guarded: GuardedRedis) -> AsyncIterator[Place]:
    made = Place("redis", lambda: RedisStore(guarded.url_of("orchestrator"), namespace="rollforward"))
    yield made
    await made.close()
