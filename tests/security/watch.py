"""Who calls which script of ours, as Redis itself tells it."""

import asyncio
import threading
from collections import defaultdict
from importlib.resources import files

import redis
from redis.client import Monitor

from backends.lua_script import script
from tests.security.users import ROLES, GuardedRedis
from tests.service.proxy import Proxy

LEDGER = "backends.ledgers.redis"
RECORD = "backends.checkpointers.redis"

_MARK, _END = "until here", "end of the watch"


def verbs(package: str) -> set[str]:
    """The verbs that a package has scripts for."""
    names = {file.name.removesuffix(".lua") for file in (files(package) / "lua").iterdir()}
    return names - {"prelude"}


class Door(Proxy):
    """The way of one user to a Redis, which sees its connections come from an address of their own."""

    def __init__(self, port: int, address: str) -> None:
        self._address = address
        super().__init__(port)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert isinstance(self._target, int)
        return await asyncio.open_connection("127.0.0.1", self._target, local_addr=(self._address, 0))


class Watch:
    """Watches a Redis until `stop`; `seen` holds the verbs of a package that a user has called through its URL."""

    def __init__(self, server: GuardedRedis) -> None:
        self._server = server
        self._users = {f"127.0.0.{number}": user for number, user in enumerate(ROLES, start=11)}
        self._doors = {user: Door(server.port, address) for address, user in self._users.items()}
        self._verbs = {
            script(package, verb).sha: (package, verb) for package in (LEDGER, RECORD) for verb in verbs(package)
        }
        self._seen: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)
        self._thread.start()
        assert self._heard.wait(timeout=10)

    def url_of(self, user: str) -> str:
        return self._server.url_of(user).replace(f":{self._server.port}/", f":{self._doors[user].port}/")

    def seen(self, user: str, package: str) -> set[str]:
        return self._seen[user, package]

    def catch_up(self) -> None:
        """Return once all that was called before has been seen."""
        self._heard.clear()
        with self._server.client() as client:
            client.echo(_MARK)
        assert self._heard.wait(timeout=30)

    def stop(self) -> None:
        with self._server.client() as client:
            client.echo(_END)
        self._thread.join(timeout=30)
        for door in self._doors.values():
            door.close()

    def _listen(self) -> None:
        with (
            redis.Redis.from_url(self._server.url_of("operator")) as client,
            Monitor(client.connection_pool) as monitor,
        ):
            self._heard.set()
            while True:
                said = monitor.next_command()
                name, _, rest = said["command"].partition(" ")
                if rest == _END:
                    return
                if rest == _MARK:
                    self._heard.set()
                elif name.lower() == "evalsha":
                    self._note(said["client_address"], rest.partition(" ")[0])

    def _note(self, address: str, sha: str) -> None:
        if address in self._users and sha in self._verbs:
            package, verb = self._verbs[sha]
            self._seen[self._users[address], package].add(verb)
