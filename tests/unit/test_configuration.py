"""How Celery is set."""

import pytest
from celery import Celery, current_app
from celery.app.defaults import NAMESPACES, flatten

from workers.application import build_app
from workers.configuration import broker_url, celery_configuration, direct_queue, queue_name
from workers.launch import worker_arguments
from workers.settings import Settings
from workers.tasks import TASK_NAME

REDIS = "redis://127.0.0.1:6379/0"


def an_own_task():
    """A task of the user's."""


def configuration(**changes):
    return celery_configuration(Settings(redis_url=REDIS, **changes))


def test_every_value_is_one_that_celery_knows():
    unknown = configuration().keys() - {name for name, _ in flatten(NAMESPACES)}
    assert unknown == set()


def test_nothing_but_json_travels():
    values = configuration()
    assert {values["task_serializer"], values["event_serializer"]} == {"json"}
    assert values["accept_content"] == values["result_accept_content"] == ["json"]


def test_a_message_is_acknowledged_after_the_report_and_comes_back_when_its_process_is_lost():
    values = configuration()
    assert values["task_acks_late"]
    assert values["task_reject_on_worker_lost"]
    assert not values["task_retry_on_worker_lost"]
    assert values["worker_prefetch_multiplier"] == 1


def test_the_broker_redelivers_long_after_leases_have_acted():
    values = configuration(lease_seconds=600)
    assert values["broker_transport_options"]["visibility_timeout"] == 86_400


def test_no_write_to_the_broker_is_sent_twice_behind_our_back():
    assert configuration()["broker_transport_options"]["retry_on_timeout"] is False


def test_two_namespaces_share_no_broker_key():
    prefixes = {
        configuration(namespace=name)["broker_transport_options"]["global_keyprefix"] for name in ("one", "two")
    }
    assert prefixes == {"one:mq:", "two:mq:"}


def test_redis_options_do_not_go_to_another_broker():
    values = configuration(broker_url="amqp://127.0.0.1//")
    assert values["broker_transport_options"] == {"confirm_publish": True}


def test_a_broker_that_fails_for_a_moment_does_not_end_the_worker():
    values = configuration()
    assert values["broker_connection_max_retries"] is None
    assert values["broker_channel_error_retry"]
    assert not values["worker_cancel_long_running_tasks_on_connection_loss"]


def test_queues_are_direct_and_named_once():
    queue = direct_queue("a.b.c")
    assert (queue.name, queue.exchange.type, queue.routing_key) == ("a.b.c", "direct", "a.b.c")
    assert [queue.name for queue in configuration(namespace="mine")["task_queues"]] == ["mine.default"]


def test_a_queue_belongs_to_one_version_of_one_graph():
    assert queue_name("rollforward", "shop:flow", "abc") == "rollforward.shop:flow.abc"


@pytest.mark.parametrize("monitoring", [True, False])
def test_events_and_remote_control_have_one_switch(monitoring):
    values = configuration(monitoring=monitoring)
    switched = {"worker_send_task_events", "task_send_sent_event", "worker_enable_remote_control"}
    assert {values[name] for name in switched} == {monitoring}


def test_a_soft_stop_ends_before_the_supervisor_kills():
    assert configuration(shutdown_grace_seconds=30)["worker_soft_shutdown_timeout"] == 25


def test_a_unix_socket_is_spelled_as_kombu_does():
    assert broker_url(Settings(redis_url="unix:///tmp/a.sock?db=3")) == "redis+socket:///tmp/a.sock?virtual_host=3"


def test_a_broker_behind_tls_has_its_certificate_checked():
    values = celery_configuration(Settings(redis_url="rediss://u:p@h:6380/1?ssl_ca_certs=/ca.pem&db=2"))
    assert values["broker_url"] == values["broker_read_url"] == "rediss://u:p@h:6380/1?db=2"
    assert values["broker_use_ssl"] == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}


def test_what_a_url_says_of_tls_is_what_kombu_is_told():
    asked = "?ssl_cert_reqs=none&ssl_check_hostname=false"
    told = celery_configuration(Settings(redis_url=f"rediss://h{asked}"))["broker_use_ssl"]
    assert told == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    assert configuration()["broker_use_ssl"] is False


def test_the_settings_decide_on_the_broker(monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://from-the-environment/0")
    app = build_app(Settings(broker_url=REDIS))
    assert app.connection_for_write().hostname == "127.0.0.1"
    assert app.connection_for_read().hostname == "127.0.0.1"


def test_celery_knows_one_task():
    app = build_app(Settings(redis_url=REDIS))
    app.finalize()
    app.task(an_own_task, name="another")
    assert list(app.tasks) == [TASK_NAME]


def test_the_users_own_app_stays_as_it_is():
    own = Celery("the-users-own")
    own.set_current()
    build_app(Settings(redis_url=REDIS)).finalize()
    assert current_app.main == own.main
    assert TASK_NAME not in own.tasks
    own.close()


def test_a_worker_talks_to_no_other_worker():
    arguments = worker_arguments(Settings(redis_url=REDIS), concurrency=3, pool="threads", name="one@%h")
    assert {"--without-gossip", "--without-mingle", "--without-heartbeat"} <= set(arguments)
    assert {"--concurrency=3", "--pool=threads", "--hostname=one@%h"} <= set(arguments)


def test_flower_sees_a_worker_that_is_monitored():
    arguments = worker_arguments(Settings(redis_url=REDIS, monitoring=True))
    assert "--heartbeat-interval=10" in arguments
