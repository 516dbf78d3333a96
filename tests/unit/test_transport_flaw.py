import logging

import pytest

from backends.ledgers.redis import RedisLedger, RedisWorkerLedger
from backends.ledgers.redis.client import IN_THE_CLEAR, UNCHECKED, transport_flaw, warn_of_transport
from workers.application import build_app
from workers.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    warn_of_transport.cache_clear()


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://u:p@127.8.9.10/0",
        "redis://[::1]:6379/0",
        "redis://localhost",
        "redis:///0",
        "unix:///run/redis.sock?db=0",
        "rediss://redis.example.org/0",
        "rediss://redis.example.org/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem",
        "amqp://broker.example.org//",
        "",
    ],
)
def test_what_stays_on_this_host_or_goes_through_tls_is_safe(url):
    assert transport_flaw(url) is None


@pytest.mark.parametrize("host", ["redis", "10.0.0.1", "u:p@redis.example.org:6379", "[fe80::1]", "localhost.example"])
def test_plain_redis_beyond_this_host_can_be_listened_to(host):
    assert transport_flaw(f"redis://{host}/0") == IN_THE_CLEAR


@pytest.mark.parametrize("asked", ["none", "optional", "CERT_NONE"])
def test_a_certificate_that_nobody_checks_is_worth_nothing(asked):
    assert transport_flaw(f"rediss://h/0?ssl_cert_reqs={asked}") == UNCHECKED


def says(caplog):
    return [(record.levelname, record.message, record.url) for record in caplog.records]


def test_it_is_logged_once_by_whoever_connects_and_without_the_password(caplog):
    url = "redis://u:hunter2@redis.example.org:6379/0"
    with caplog.at_level(logging.WARNING):
        build_app(Settings(redis_url=url))
        for _ in range(2):
            RedisWorkerLedger(url)._client()
    assert says(caplog) == [("WARNING", IN_THE_CLEAR, "redis://redis.example.org:6379/0")]


async def test_an_orchestrator_says_it_as_well(caplog):
    with caplog.at_level(logging.WARNING):
        RedisLedger("rediss://h:6380/0?ssl_cert_reqs=none")._client()
    assert says(caplog) == [("WARNING", UNCHECKED, "rediss://h:6380/0")]
