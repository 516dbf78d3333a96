"""Whose a key is."""

import pytest

from backends.health import keyspace
from backends.health.keyspace import Keyspace, sorted_out

OURS = [
    "jobs:run:workers",
    "jobs:run:owner:host:1:2:worker:3",
    "jobs:run:{one}:0123:head",
    "jobs:run:{one}:tombstone",
    "jobs:cp:runs",
    "jobs:cp:{one}:steps",
    "jobs:log:{one}",
    "jobs:status:{one}",
    "jobs:status:runs",
    "jobs:mq:unacked",
    "jobs:mq:unacked_index",
    "jobs:mq:unacked_mutex",
    "jobs:mq:_kombu.binding.jobs.default",
    "jobs:mq:_kombu.binding_deadlines",
]


@pytest.mark.parametrize("key", OURS)
def test_what_a_deployment_writes_is_nothing_to_speak_of(key):
    assert sorted_out([key], "jobs") == Keyspace()


@pytest.mark.parametrize(
    ("key", "kind", "shown"),
    [
        ("jobs:run:{one}:meta", "runs", "one"),
        ("jobs:run:{doctor:canary}:meta", "runs", "doctor:canary"),
        ("jobs:mq:jobs.graph.12ab", "queues", "jobs.graph.12ab"),
        ("jobs:mq:celery", "queues", "celery"),
        ("jobs:mq:celeryev.0a-1b", "event_queues", "celeryev.0a-1b"),
        ("jobs:mq:0a.reply.celery.pidbox", "event_queues", "0a.reply.celery.pidbox"),
        ("jobs:celery", "strange", "jobs:celery"),
        ("jobs:runs:x", "strange", "jobs:runs:x"),
        ("jobs2:run:workers", "namespaces", "jobs2"),
        ("more_jobs:mq:unacked", "namespaces", "more_jobs"),
        ("jobs", "foreign", "jobs"),
        ("celery", "foreign", "celery"),
        ("9lives:run:x", "foreign", "9lives:run:x"),
    ],
)
def test_what_is_not_plainly_ours_is_sorted_by_whose_it_is(key, kind, shown):
    expected = Keyspace()
    getattr(expected, kind).add(shown)
    assert sorted_out([key], "jobs") == expected


def test_not_more_than_so_many_keys_are_looked_at(monkeypatch):
    monkeypatch.setattr(keyspace, "MOST_KEYS", 2)
    assert sorted_out(["a", "b"], "jobs") == Keyspace(foreign={"a", "b"})
    assert sorted_out(["a", "b", "c"], "jobs") == Keyspace(foreign={"a", "b"}, is_whole=False)
