"""The settings as the command line reads them, and where each came from."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from orchestrator.errors import CallerError
from workers.settings import Settings

_PREFIX = "ROLLFORWARD_"
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_USER_INFO = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")


class SettingsRefused(CallerError):
    """A setting has a value that it cannot have."""

    category = "settings_refused"


@dataclass(frozen=True, slots=True)
class SettingOrigin:
    """One setting as it is printed; `source` is `flag`, `env NAME`, `pyproject.toml` or `default`."""

    name: str
    value: str
    source: str


def read_settings(**flags: Any) -> Settings:
    """The settings; a flag that is None leaves a setting as the environment has it.

    Raises:
        SettingsRefused: one has a value that it cannot have, or `pyproject.toml` cannot be read.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise SettingsRefused(f"setting {_named(name)} is refused: {first['msg']}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsRefused(f"pyproject.toml cannot be read: {error}") from error
    _check_redis_url(settings.redis_url)
    return settings


def origins(settings: Settings, flags: Mapping[str, Any]) -> Iterator[SettingOrigin]:
    """Every setting with its value, without secrets and passwords, and where it came from."""
    in_project = _project_table()
    for name, field in Settings.model_fields.items():
        yield SettingOrigin(_named(name), shown(getattr(settings, name)), _source(name, field, flags, in_project))


def shown(value: Any) -> str:
    """A value as it may be printed: no secret, no password in a URL."""
    if isinstance(value, tuple):
        return ", ".join(shown(part) for part in value)
    if isinstance(value, SecretStr):
        return "********"
    return "" if value is None else hide_password(str(value))


def hide_password(url: str) -> str:
    """A URL with its password starred out."""
    return _USER_INFO.sub(r"\1:***@", url)


def _check_redis_url(url: str | None) -> None:
    if url is None or _is_redis_url(url):
        return
    # What was given is not repeated: where it is malformed, its password cannot be told from the rest.
    raise SettingsRefused(
        "setting ROLLFORWARD_REDIS_URL is refused: it is no URL of a Redis; write one like redis://localhost:6379/0, "
        "rediss://:password@host:6379/0 (TLS) or unix:///run/redis.sock"
    )


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read for what it raises where it is no number
    except ValueError:
        return False
    return parts.scheme in _REDIS_SCHEMES and url.startswith(f"{parts.scheme}://")


def _source(name: str, field: FieldInfo, flags: Mapping[str, Any], in_project: Mapping[str, Any]) -> str:
    if flags.get(name) is not None:
        return "flag"
    present = {variable.upper(): variable for variable in os.environ}
    for variable in _variables(name, field):
        if variable in present:
            return f"env {present[variable]}"
    return "pyproject.toml" if name in in_project else "default"


def _variables(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice).upper() for choice in alias.choices if str(choice) != name]
    return [f"{_PREFIX}{name.upper()}"]


def _named(name: str) -> str:
    return name if name.isupper() else f"{_PREFIX}{name.upper()}"


def _project_table() -> Mapping[str, Any]:
    path = Path("pyproject.toml")
    if not path.is_file():
        return {}
    table: Mapping[str, Any] = tomllib.loads(path.read_text()).get("tool", {}).get("rollforward", {})
    return table
