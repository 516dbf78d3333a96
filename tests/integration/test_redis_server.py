from pathlib import Path

from tests.service.redis import RedisServer


def test_a_redis_url_holds_nothing_and_takes_writes(redis_server, redis_url):
    with redis_server.client() as client:
        assert client.dbsize() == 0
        assert client.set("key", "value")


def test_a_killed_redis_comes_back_at_the_same_address_with_its_data(tmp_path: Path):
    server = RedisServer(tmp_path).start()
    try:
        url, pid = server.url, server.pid
        with server.client() as client:
            client.set("key", "value")
        server.kill()
        server.start()
        with server.client() as client:
            assert client.get("key") == b"value"
        assert server.url == url
        assert server.pid != pid
    finally:
        server.stop()


def test_a_redis_can_live_on_a_socket_alone(tmp_path: Path):
    server = RedisServer(tmp_path, unix_socket=True).start()
    try:
        with server.client() as client:
            assert client.ping()
            assert client.config_get("port") == {"port": "0"}
    finally:
        server.stop()
