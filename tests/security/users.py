"""A Redis under the users of `deploy/redis`, started as a deployment starts it."""

import os
import subprocess
from collections.abc import Mapping

import redis
import yaml

from rollforward.embedded.redis_binary import find_redis_server
from tests.service.redis import RedisServer
from tests.service.worker import REPOSITORY

START = REPOSITORY / "deploy/redis/start"
ROLES = ("worker", "orchestrator", "dashboard", "flower")


class GuardedRedis(RedisServer):
    """Every user's password is its name turned round."""

    def start(self) -> "GuardedRedis":
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", str(START), *self._arguments()], stdout=log, stderr=log, env=self._environment()
            )
        self._wait_until_it_answers()
        return self

    def _arguments(self) -> list[str]:
        """Those of the compose file come last, and count."""
        compose = yaml.safe_load((REPOSITORY / "deploy/compose.yaml").read_text())
        _, _, *options = compose["services"]["redis"]["command"]
        return [*super()._arguments(), *options]

    def url_of(self, user: str, *, database: int = 0) -> str:
        return f"redis://{user}:{user[::-1]}@127.0.0.1:{self.port}/{database}"

    def client(self) -> redis.Redis:
        return self.client_of("operator")

    def client_of(self, user: str) -> redis.Redis:
        """A plain client of one of its users; the caller closes it."""
        return redis.Redis.from_url(self.url_of(user), socket_timeout=10)

    def denials(self) -> list[Mapping[str, object]]:
        """What was asked of it by users who may not: the user, and the command, key or channel."""
        with self.client() as client:
            return [{name: entry[name] for name in ("username", "reason", "object")} for entry in client.acl_log()]

    def _environment(self) -> dict[str, str]:
        binary = find_redis_server()
        assert binary is not None
        named = self.folder / "redis-server"
        if not named.exists():
            named.symlink_to(binary)
        path = os.pathsep.join((str(self.folder), os.environ["PATH"]))
        passwords = {f"REDIS_{user.upper()}_PASSWORD": user[::-1] for user in ("operator", *ROLES)}
        return {**os.environ, **passwords, "PATH": path, "TMPDIR": str(self.folder)}
