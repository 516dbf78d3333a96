"""How Celery is set: the values, and why those that are not obvious are what they are."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from kombu.entity import Exchange, Queue

from backends.ledgers.redis.client import warn_of_transport
from workers.settings import Settings

DAY_SECONDS = 86_400


def queue_name(namespace: str, graph: str, fingerprint: str) -> str:
    """The queue of one version of one graph, so that in a rolling deploy old workers finish old runs."""
    return f"{namespace}.{graph}.{fingerprint}"


def direct_queue(name: str) -> Any:
    """A queue that is published to by its name alone: no routing table can be lost."""
    # Half of kombu's signatures have types.
    make_queue: Any = Queue
    make_exchange: Any = Exchange
    return make_queue(name, make_exchange(name, type="direct"), routing_key=name)


def broker_url(settings: Settings) -> str | None:
    """Where messages go, in kombu's spelling: redis-py says `unix://`, kombu `redis+socket://`."""
    url = settings.broker
    if url is None or not url.startswith("unix://"):
        return url
    return "redis+socket://" + url.removeprefix("unix://").replace("?db=", "?virtual_host=").replace(
        "&db=", "&virtual_host="
    )


def celery_configuration(settings: Settings) -> dict[str, Any]:
    """Every value that Celery is set to; a worker adds the queues of its graphs."""
    return {
        **_content(),
        **_delivery(settings),
        **_broker(settings),
        **_pool(settings),
        **_control(settings),
    }


def _content() -> dict[str, Any]:
    return {
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "event_serializer": "json",
        "task_protocol": 2,
        "task_compression": None,
        "enable_utc": True,
        "timezone": "UTC",
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_track_started": False,
        "task_remote_tracebacks": False,
        "task_always_eager": False,
        "imports": ("workers.tasks",),
    }


def _delivery(settings: Settings) -> dict[str, Any]:
    queue = f"{settings.namespace}.default"
    return {
        # A message that a lost process held comes back, and the claim decides: it counts deliveries, Celery does not.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_retry_on_worker_lost": False,
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        # One message a slot: a long instance must not sit on others.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": False,
        "worker_eta_task_limit": 100,
        "task_publish_retry": True,
        "task_publish_retry_policy": {
            "max_retries": 5,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 2,
        },
        # A mistyped queue is an error, not a queue that nobody reads.
        "task_create_missing_queues": False,
        "task_default_queue": queue,
        "task_default_exchange_type": "direct",
        "task_queues": [direct_queue(queue)],
        "task_time_limit": settings.hard_limit_seconds,
    }


def _broker(settings: Settings) -> dict[str, Any]:
    url, tls = _tls_apart(broker_url(settings))
    warn_of_transport(settings.broker or "")
    return {
        "broker_url": url,
        "broker_use_ssl": tls or False,
        # Celery lets CELERY_BROKER_URL win over `broker_url`; here the settings have decided already.
        "broker_read_url": url,
        "broker_write_url": url,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        # The default gives up and ends the worker.
        "broker_connection_max_retries": None,
        # A full or read-only Redis must not end the worker.
        "broker_channel_error_retry": True,
        "broker_connection_timeout": 5,
        "broker_pool_limit": 10,
        "broker_transport_options": _redis_transport(settings) if is_redis(url) else {"confirm_publish": True},
        # A broker's hiccup must not kill hours of work; reports have a connection of their own.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _tls_apart(url: str | None) -> tuple[str | None, dict[str, Any]]:
    """The URL without what it says of TLS, and that: by itself, kombu checks no certificate of a Redis."""
    if url is None or not url.startswith("rediss:"):
        return url, {}
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    tls: dict[str, Any] = {name: value for name, value in given.items() if name.startswith("ssl_")}
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() not in ("0", "f", "false", "n", "no")
    left = urlencode({name: value for name, value in given.items() if name not in tls})
    return parts._replace(query=left).geturl(), {"ssl_cert_reqs": "required", **tls}


def is_redis(url: str | None) -> bool:
    """Whether messages go through Redis; so they do where no address is known yet."""
    return url is None or url.startswith(("redis", "sentinel"))


def _redis_transport(settings: Settings) -> dict[str, Any]:
    return {
        # Leases act long before: a redelivery by the broker while a copy runs would share its delivery tag.
        "visibility_timeout": DAY_SECONDS,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 10,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        # No write is sent twice behind our back, which also lets kombu publish in batches.
        "retry_on_timeout": False,
        "max_connections": 20,
        "priority_steps": [0],
        "queue_order_strategy": "round_robin",
        "global_keyprefix": f"{settings.namespace}:mq:",
        "client_name": f"rollforward-{settings.namespace}",
    }


def _pool(settings: Settings) -> dict[str, Any]:
    return {
        "worker_soft_shutdown_timeout": max(1, settings.shutdown_grace_seconds - 5),
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_pool": "prefork",
        "worker_pool_start_method": "fork",
        # A child that imports slowly must not be killed for it.
        "worker_proc_alive_timeout": 60.0,
        "worker_lost_wait": 10.0,
        "worker_max_tasks_per_child": 5_000,
        "worker_max_memory_per_child": settings.child_memory_mb * 1000,
    }


def _control(settings: Settings) -> dict[str, Any]:
    return {
        "worker_send_task_events": settings.monitoring,
        "task_send_sent_event": settings.monitoring,
        "worker_enable_remote_control": settings.monitoring,
        "event_queue_ttl": 5,
        "event_queue_expires": 60,
        "control_queue_ttl": 60,
        "control_queue_expires": 10,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_log_color": False,
    }
