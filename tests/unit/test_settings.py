"""What settings are refused, and what follows from others."""

import logging
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.capture.capture import CaptureOptions
from rollforward.cli.setting import SettingsRefused, read_settings
from workers.settings import Settings


@pytest.mark.parametrize(("lease", "heartbeat"), [(3, 1), (15, 5), (600, 5), (0.6, 0.2)])
def test_the_heartbeat_follows_a_short_lease(lease, heartbeat):
    settings = Settings(lease_seconds=lease)
    assert settings.heartbeat_seconds == pytest.approx(heartbeat)


@pytest.mark.parametrize(("lease", "heartbeat"), [(3, 1), (0.6, 0.2), (1, 1 / 3)])
def test_a_third_of_the_lease_is_accepted(lease, heartbeat):
    assert Settings(lease_seconds=lease, heartbeat_seconds=heartbeat).heartbeat_seconds == heartbeat


def test_a_heartbeat_of_more_than_a_third_of_the_lease_is_refused_with_one_sentence(monkeypatch):
    monkeypatch.setenv("ROLLFORWARD_LEASE_SECONDS", "3")
    monkeypatch.setenv("ROLLFORWARD_HEARTBEAT_SECONDS", "2")
    with pytest.raises(SettingsRefused) as refused:
        read_settings()
    assert str(refused.value) == (
        "setting ROLLFORWARD_HEARTBEAT_SECONDS is refused: 2 s is more than a third of the lease; make it 1 s at most, "
        "or raise ROLLFORWARD_LEASE_SECONDS"
    )


def test_a_lease_that_is_refused_is_named_first():
    with pytest.raises(ValidationError) as refused:
        Settings(lease_seconds=-1)
    assert refused.value.errors()[0]["loc"] == ("lease_seconds",)


@pytest.mark.parametrize("name", ["logs", "status"])
def test_where_something_is_kept_is_on_off_or_a_url(name):
    def url_of(chosen: str, checkpoints: str = "sqlite:///state.db") -> Any:
        given: dict[str, Any] = {"checkpoint_url": checkpoints, name: chosen}
        return getattr(Settings(**given), f"{name}_url")

    assert (url_of("on"), url_of("off"), url_of("redis://h/1")) == ("sqlite:///state.db", None, "redis://h/1")
    assert url_of("on", "memory://") is None
    with pytest.raises(ValidationError, match="neither on nor off nor a URL"):
        url_of("yes")


def test_the_level_of_log_records_may_be_written_small():
    assert Settings.model_validate({"log_level": "debug", "log_bytes": 2048}).capture == CaptureOptions(
        2048, logging.DEBUG
    )
    with pytest.raises(ValidationError):
        Settings.model_validate({"log_level": "loud"})
