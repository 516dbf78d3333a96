"""The Redis servers of a deployment, by what they are for."""

from collections.abc import Iterator
from dataclasses import dataclass

from workers.settings import Settings

LEDGER = "ledger"
BROKER = "broker"
CHECKPOINTS = "checkpoints"

_SCHEMES = ("redis://", "rediss://", "unix://")
_KOMBU_SOCKET = "redis+socket://"


@dataclass(frozen=True, slots=True)
class Role:
    """A Redis, and what it is for; `name` is the subject of what is found of it."""

    name: str
    url: str

    @property
    def keeps_record(self) -> bool:
        """Whether what it confirms must survive it."""
        return self.name == CHECKPOINTS


def roles(settings: Settings) -> Iterator[Role]:
    """Each Redis that is named; a broker in the ledger's own Redis is no other role.

    That of an embedded run is not named: we start it ourselves, as it is to be.
    """
    ledger = settings.redis_url
    if ledger is not None:
        yield Role(LEDGER, ledger)
    broker = settings.broker_url and _in_spelling_of_client(settings.broker_url)
    if broker and broker != ledger and broker.startswith(_SCHEMES):
        yield Role(BROKER, broker)
    if settings.checkpoint_url.startswith(_SCHEMES):
        yield Role(CHECKPOINTS, settings.checkpoint_url)


def _in_spelling_of_client(url: str) -> str:
    """A socket as the client of Redis spells it."""
    return url.replace(_KOMBU_SOCKET, "unix://", 1).replace("virtual_host=", "db=", 1)
