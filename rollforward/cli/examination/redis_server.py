"""What is asked of each Redis."""

from collections.abc import Iterator

from backends.health.redis import RedisFacts, inspect_redis
from orchestrator.errors import OperatorError
from rollforward.cli.examination.clock import clock
from rollforward.cli.examination.finding import Finding, refused, refused_by, warning, well
from rollforward.cli.examination.role import BROKER, Role, roles
from rollforward.embedded.redis_binary import find_redis_server
from workers.settings import Settings

OLDEST = (6, 2)
_MOST_MEMORY_SHARE = 0.7
_LEAST_PUBSUB_BYTES = 64 * 1024 * 1024
_LARGEST_IN_ITEMS = 4
"""What goes to Redis at once is an item, or a result that stands quoted in its report, beside little else."""
_HIDDEN = "hidden by the server"


def redis_servers(settings: Settings) -> Iterator[Finding]:
    """Every Redis of the deployment; without one, whether embedded runs can have theirs."""
    found = list(roles(settings))
    if not any(role.name == "ledger" for role in found):
        yield _embedded()
    for role in found:
        try:
            facts = inspect_redis(role.url, namespace=settings.namespace)
        except OperatorError as error:
            yield refused_by("redis", error, subject=role.name)
        else:
            yield from judged(role, facts, settings)


def judged(role: Role, facts: RedisFacts, settings: Settings) -> Iterator[Finding]:
    """What a server's facts come to."""
    name = role.name
    yield _version(name, facts)
    yield _eviction(name, facts)
    yield _memory(name, facts)
    yield _append_only_file(role, facts)
    if role.keeps_record:
        yield _append_fsync(name, facts)
    yield clock("redis_clock", facts.clock_offset_seconds, subject=name)
    yield from _topology(name, facts)
    yield from _connections(name, facts, monitoring=settings.monitoring)
    if role.name != BROKER:
        yield _value_size(name, facts, item_bytes=settings.max_item_bytes)
    yield _probe(name, facts)


def _embedded() -> Finding:
    binary = find_redis_server()
    if binary is not None:
        return well("redis", f"embedded runs use {binary}")
    way_out = "install redis-server, or set ROLLFORWARD_REDIS_URL, or use `--executor local`"
    return refused("redis", "none is configured, and no redis-server is here for embedded runs", way_out)


def _version(name: str, facts: RedisFacts) -> Finding:
    if facts.version >= OLDEST:
        return well("redis_version", facts.version_text, subject=name)
    found = f"{facts.version_text} lacks commands that are needed"
    return refused("redis_version", found, "install Redis 6.2 or newer, or Valkey", subject=name)


def _eviction(name: str, facts: RedisFacts) -> Finding:
    if facts.eviction_policy in (None, "noeviction"):
        return well("redis_eviction", facts.eviction_policy or _HIDDEN, subject=name)
    found = f"{facts.eviction_policy}: what is kept may be evicted, queues and leases first"
    return refused("redis_eviction", found, "set maxmemory-policy noeviction", subject=name)


def _memory(name: str, facts: RedisFacts) -> Finding:
    if facts.memory_used_bytes is None or facts.memory_limit_bytes is None:
        return well("redis_memory", _HIDDEN, subject=name)
    if not facts.memory_limit_bytes:
        found = "no limit: the system ends a Redis that takes all memory, instead of dispatch pausing in time"
        return warning("redis_memory", found, "set maxmemory below the memory of its host", subject=name)
    share = facts.memory_used_bytes / facts.memory_limit_bytes
    found = f"{share:.0%} of maxmemory is used"
    if share < _MOST_MEMORY_SHARE:
        return well("redis_memory", found, subject=name)
    return warning("redis_memory", f"{found}, and dispatch pauses", "raise maxmemory, or let runs drain", subject=name)


def _append_only_file(role: Role, facts: RedisFacts) -> Finding:
    check, name = "redis_append_only_file", role.name
    if facts.append_error is not None:
        found = f"it cannot be written ({facts.append_error}), and Redis refuses writes"
        return refused(check, found, "free space on its disk, or look at its log", subject=name)
    if facts.has_append_only_file:
        return well(check, "on", subject=name)
    if role.keeps_record:
        found = "off, and the record of runs is kept in this Redis: a restart forgets them"
        return refused(check, found, "set appendonly yes", subject=name)
    return warning(check, "off: a restart repeats the instances in flight", "set appendonly yes", subject=name)


def _append_fsync(name: str, facts: RedisFacts) -> Finding:
    told = facts.settings.get("appendfsync")
    if told in (None, "always"):
        return well("redis_appendfsync", told or _HIDDEN, subject=name)
    if told == "everysec":
        found = "everysec: a power cut takes the last second of the record"
        return warning("redis_appendfsync", found, "set appendfsync always", subject=name)
    found = f"{told}: a power cut takes half a minute of the record"
    return refused("redis_appendfsync", found, "set appendfsync always", subject=name)


def _topology(name: str, facts: RedisFacts) -> Iterator[Finding]:
    if facts.is_cluster:
        found = "a Redis Cluster, for which Celery has no transport"
        yield refused("redis_topology", found, "use a standalone Redis, or one behind Sentinel", subject=name)
    elif facts.is_replica:
        yield refused("redis_topology", "a replica", "let the URL name the primary", subject=name)
    elif facts.replicas and facts.settings.get("min-replicas-to-write") == "0":
        found = f"{facts.replicas} replicas, none of which has to have a write before it is confirmed"
        way_out = "set min-replicas-to-write 1 and min-replicas-max-lag 10, so that a failover loses less"
        yield warning("redis_topology", found, way_out, subject=name)
    else:
        yield well("redis_topology", f"a primary with {facts.replicas} replicas", subject=name)


def _connections(name: str, facts: RedisFacts, *, monitoring: bool) -> Iterator[Finding]:
    idle, keepalive = facts.settings.get("timeout", "0"), facts.settings.get("tcp-keepalive", "60")
    if idle != "0":
        found = f"it hangs up on who is silent for {idle} s, as idle workers are"
        yield warning("redis_connections", found, "set timeout 0", subject=name)
    elif keepalive == "0":
        found = "it never learns of a peer that is gone"
        yield warning("redis_connections", found, "set tcp-keepalive 60", subject=name)
    elif monitoring and 0 < _pubsub_bytes(facts) < _LEAST_PUBSUB_BYTES:
        found = f"it cuts a slow Flower off at {_pubsub_bytes(facts) >> 20} MiB"
        way_out = "set client-output-buffer-limit 'pubsub 64mb 16mb 60'"
        yield warning("redis_connections", found, way_out, subject=name)
    else:
        yield well("redis_connections", "kept while they are idle", subject=name)


def _value_size(name: str, facts: RedisFacts, *, item_bytes: int) -> Finding:
    told = facts.settings.get("proto-max-bulk-len")
    if told is None or int(told) >= _LARGEST_IN_ITEMS * item_bytes:
        return well("redis_value_size", _HIDDEN if told is None else f"up to {told} bytes", subject=name)
    found = f"it hangs up on who sends more than {told} bytes, and an item or a result may have {item_bytes}"
    way_out = f"set proto-max-bulk-len {_LARGEST_IN_ITEMS * item_bytes}, or lower ROLLFORWARD_MAX_ITEM_BYTES"
    return refused("redis_value_size", found, way_out, subject=name)


def _pubsub_bytes(facts: RedisFacts) -> int:
    """How much may wait for a listener before it is cut off; 0 is without a limit."""
    words = facts.settings.get("client-output-buffer-limit", "").split()
    return int(words[words.index("pubsub") + 1]) if "pubsub" in words else 0


def _probe(name: str, facts: RedisFacts) -> Finding:
    if facts.probe_error is None:
        return well("redis_probe", "written, read and deleted", subject=name)
    way_out = "look at its log, and give this user the rights that docs/security.md lists"
    return refused("redis_probe", f"it does not take writes: {facts.probe_error}", way_out, subject=name)
