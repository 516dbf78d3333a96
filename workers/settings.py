"""Every setting of the product, read once: flag > environment > `[tool.rollforward]` in pyproject.toml > default."""

import logging
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)

from orchestrator.capture.capture import DEFAULT_LOG_BYTES, LEAST_LOG_BYTES, CaptureOptions
from orchestrator.report import DEFAULT_PAYLOAD_BYTES

DEFAULT_LEASE_SECONDS = 15.0
LONGEST_DEFAULT_HEARTBEAT_SECONDS = 5.0
NAMESPACE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,40}$"

LOOPBACK = "127.0.0.1"
LARGEST_PORT = 65_535

BEATS_PER_LEASE = 3
"""So many beats have to fail, one after the other, before a lease ends."""


def _default_heartbeat(given: Mapping[str, Any]) -> float:
    lease_seconds: float = given.get("lease_seconds", DEFAULT_LEASE_SECONDS)
    return min(LONGEST_DEFAULT_HEARTBEAT_SECONDS, lease_seconds / BEATS_PER_LEASE)


def read_address(text: str) -> tuple[str, int] | None:
    """The host and port of `PORT`, `HOST:PORT` or `[HOST]:PORT`; None where it is none of these."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else LOOPBACK
    if not host or not port.isascii() or not port.isdigit() or int(port) > LARGEST_PORT:
        return None
    return host, int(port)


class Settings(BaseSettings):
    """The settings; `Settings(name=value)` is how a flag overrides the environment.

    `redis_url` None means the embedded Redis. `broker_url` None means the same Redis as the ledger.
    `heartbeat_seconds` is a third of the lease at most, and by default, where that is below 5 s.
    `shutdown_grace_seconds` is what the supervisor waits between SIGTERM and SIGKILL. `hard_limit_seconds` ends a
    prefork process that is stuck in one message for longer; a fan-out's own time limit acts long before. A prefork
    process that has come to use more than `child_memory_mb` is replaced between two messages. `metrics` is `off`, or a
    port or `host:port` where a server or a worker shows what it counts. `trace_share` of a fan-out's instances are
    traced, at most `trace_most`, where the environment asks for traces (`OTEL_...`).
    `status` is where rows of what becomes of instances are kept: `on` for beside the checkpoints, `off`, or a URL.
    `logs` is where the output of instances is kept: `on` for beside the checkpoints, `off`, or a URL. A worker takes
    `log_bytes` of an instance's output, and its log records from `log_level` on.
    """

    model_config = SettingsConfigDict(
        env_prefix="ROLLFORWARD_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        pyproject_toml_table_header=("tool", "rollforward"),
    )

    redis_url: str | None = None
    broker_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("broker_url", "ROLLFORWARD_BROKER_URL", "CELERY_BROKER_URL"),
    )
    checkpoint_url: str = "sqlite:///.rollforward/state.db"
    graphs: Annotated[tuple[str, ...], NoDecode] = ()
    namespace: str = Field(default="rollforward", pattern=NAMESPACE_PATTERN)
    lease_seconds: float = Field(default=DEFAULT_LEASE_SECONDS, gt=0)
    heartbeat_seconds: float = Field(default_factory=_default_heartbeat, gt=0)
    max_deliveries: int = Field(default=3, ge=1)
    max_item_bytes: int = Field(default=DEFAULT_PAYLOAD_BYTES, ge=1)
    secret: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    monitoring: bool = False
    shutdown_grace_seconds: float = Field(default=30.0, ge=2)
    hard_limit_seconds: float | None = Field(default=None, gt=0)
    child_memory_mb: int = Field(default=1000, ge=1)
    metrics: str = "off"
    code_version: str | None = None
    trace_share: float = Field(default=1.0, ge=0, le=1)
    trace_most: int = Field(default=1000, ge=0)
    status: str = "on"
    logs: str = "on"
    log_bytes: int = Field(default=DEFAULT_LOG_BYTES, ge=LEAST_LOG_BYTES)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"

    @field_validator("heartbeat_seconds")
    @classmethod
    def _several_to_a_lease(cls, value: float, info: ValidationInfo) -> float:
        most = info.data.get("lease_seconds", math.inf) / BEATS_PER_LEASE
        if value > most * (1 + 1e-9):
            raise PydanticCustomError(
                "heartbeat_too_rare",
                "{value} s is more than a third of the lease; make it {most} s at most, or raise "
                "ROLLFORWARD_LEASE_SECONDS",
                {"value": f"{value:g}", "most": f"{most:g}"},
            )
        return value

    @field_validator("metrics")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if value != "off" and read_address(value) is None:
            raise PydanticCustomError(
                "metrics_not_an_address",
                "{value} is neither off nor where to serve metrics; write a port, which is served on the loopback "
                "only, or host:port",
                {"value": value},
            )
        return value

    @field_validator("logs", "status")
    @classmethod
    def _on_off_or_a_url(cls, value: str) -> str:
        if value not in ("on", "off") and "://" not in value:
            raise PydanticCustomError(
                "store_not_chosen",
                "{value} is neither on nor off nor a URL; write on for beside the checkpoints, or sqlite:///FILE, "
                "postgresql+psycopg://..., redis://...",
                {"value": value},
            )
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("graphs", "secret", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @classmethod
    def settings_customise_sources(  # noqa: PLR0917 - the library fixes the signature
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, PyprojectTomlConfigSettingsSource(settings_cls)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """The host and port where metrics are served; None where they are not."""
        return read_address(self.metrics)

    @property
    def seal_keys(self) -> tuple[str, ...]:
        """The keys of `Seal`, in plain text."""
        return tuple(key.get_secret_value() for key in self.secret)

    @property
    def capture(self) -> CaptureOptions:
        """How much of an instance's output is taken."""
        return CaptureOptions(self.log_bytes, logging.getLevelNamesMapping()[self.log_level])

    @property
    def logs_url(self) -> str | None:
        """Where the output of instances is kept; None where it is not, as in memory, where nobody could read it."""
        return self._url_of(self.logs)

    @property
    def status_url(self) -> str | None:
        """Where status rows are kept; None where they are not, as in memory, where nobody could read them."""
        return self._url_of(self.status)

    @property
    def broker(self) -> str | None:
        """Where messages go; None while the embedded Redis has no address yet."""
        return self.broker_url or self.redis_url

    def _url_of(self, chosen: str) -> str | None:
        url = {"on": self.checkpoint_url, "off": None}.get(chosen, chosen)
        return None if url is None or url.startswith("memory:") else url
