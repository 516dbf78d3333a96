"""The Lua scripts of a package, one a verb, and how a server is asked to run one."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.client import Pipeline
from redis.exceptions import NoScriptError

AnyPipeline = TypeVar("AnyPipeline", Pipeline, AsyncPipeline)

_PRELUDE = "prelude.lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script of a package, and the name under which a server keeps it."""

    package: str
    text: str
    sha: str


@cache
def script(package: str, verb: str) -> Script:
    """The script of a verb in the folder `lua` of a package, with what all of them share in front."""
    folder = files(package) / "lua"
    text = "\n".join((folder / name).read_text() for name in (_PRELUDE, f"{verb}.lua"))
    return Script(package, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def scripts(package: str) -> tuple[Script, ...]:
    """Every script of a package."""
    names = sorted(file.name for file in (files(package) / "lua").iterdir())
    return tuple(script(package, name.removesuffix(".lua")) for name in names if name != _PRELUDE)


def run(client: redis.Redis, lua: Script, *told: Any) -> Any:
    """The answer to a script; `told` is the number of its keys, the keys, and its arguments.

    A server that lacks it is told every script of its package, since who may only read from it cannot tell it any.

    Raises:
        redis.RedisError: as the client raises it.
    """
    try:
        return client.evalsha(lua.sha, *told)
    except NoScriptError:
        _lesson(client.pipeline(transaction=False), lua.package).execute()
        return client.evalsha(lua.sha, *told)


async def run_async(client: redis.asyncio.Redis, lua: Script, *told: Any) -> Any:
    """As `run`, for the running loop."""
    try:
        return await client.evalsha(lua.sha, *told)
    except NoScriptError:
        await _lesson(client.pipeline(transaction=False), lua.package).execute()
        return await client.evalsha(lua.sha, *told)


def _lesson(pipeline: AnyPipeline, package: str) -> AnyPipeline:
    for one in scripts(package):
        pipeline.script_load(one.text)
    return pipeline
