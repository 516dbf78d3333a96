"""What each Redis user that we ship may not do."""

import subprocess
from itertools import product

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from backends.checkpointers.redis.store import RedisStore
from backends.ledgers.redis import RedisLedger, RedisWorkerLedger
from backends.ledgers.redis.client import advice_for
from backends.lua_script import script
from orchestrator.checkpoint.row import RunFilter, RunStatus
from orchestrator.errors import CheckpointUnavailable, LedgerUnavailable
from tests.contract.checkpoint_case import FAN_OUT, LONG, errors_of, fill, reports_of
from tests.contract.ledger_case import EPOCH, RUN, LedgerCase, every_verb, slot
from tests.security.users import ROLES, START, GuardedRedis
from tests.security.watch import RECORD, verbs
from tests.service.cli import CommandLine

DANGEROUS = (
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG SET dir /tmp",
    "CONFIG REWRITE",
    "KEYS *",
    "SCAN 0",
    "DEBUG SLEEP 0",
    "MODULE LIST",
    "REPLICAOF NO ONE",
    "SHUTDOWN NOSAVE",
    "BGREWRITEAOF",
    "MONITOR",
    "ACL LIST",
    "CLIENT LIST",
    "CLIENT PAUSE 1",
    "SCRIPT FLUSH",
    "EVAL return(1) 0",
    "SUBSCRIBE news",
    "PUBLISH news x",
    "GET celery",
    "GET other:run:{r}:meta",
    "HGETALL other:cp:{r}:run",
)
BEYOND = {
    "worker": (
        "HGETALL rollforward:cp:{r}:run",
        "HSET rollforward:cp:{r}:run epoch 9",
        "UNLINK rollforward:run:{r}:meta",
        "SETBIT rollforward:run:{r}:f:closed 1 1",
        "CONFIG GET requirepass",
    ),
    "orchestrator": (),
    "dashboard": (
        "HSET rollforward:run:{r}:meta epoch 9",
        "HSET rollforward:cp:{r}:run epoch 9",
        "DEL rollforward:run:{r}:meta",
        "LPUSH rollforward:mq:q x",
        "HGETALL rollforward:mq:unacked",
        "PUBLISH rollforward:mq:/0.celery.pidbox x",
        "PSUBSCRIBE rollforward:mq:/0.celeryev/*",
        "SCRIPT LOAD return(1)",
        "CONFIG GET requirepass",
        "INFO",
    ),
    "flower": (
        "HGETALL rollforward:run:{r}:meta",
        "HGET rollforward:run:{r}:f:items 0",
        "HGETALL rollforward:cp:{r}:run",
        "CONFIG GET requirepass",
        "INFO",
    ),
}
DENIED = [*product(ROLES, DANGEROUS), *((role, command) for role in ROLES for command in BEYOND[role])]


@pytest.mark.parametrize(("role", "command"), DENIED, ids=lambda one: one)
def test_a_role_may_do_no_more_than_it_needs(guarded: GuardedRedis, role: str, command: str) -> None:
    with guarded.client_of(role) as client:
        assert client.ping()
        with pytest.raises(NoPermissionError):
            client.execute_command(*command.split())


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "redis://worker:wrong@127.0.0.1", "redis://:retekrow@127.0.0.1"])
def test_who_is_no_user_may_do_nothing(guarded: GuardedRedis, url: str) -> None:
    with (
        redis.Redis.from_url(f"{url}:{guarded.port}/0", protocol=2) as client,
        pytest.raises(AuthenticationError),
    ):
        client.ping()


def test_a_dashboard_calls_scripts_that_read_and_none_that_writes(guarded: GuardedRedis) -> None:
    worker, dashboard = (RedisWorkerLedger(guarded.url_of(role)) for role in ("worker", "dashboard"))
    worker.announce("w1", {}, ttl_seconds=60)
    assert [facts["worker"] for facts in dashboard.workers()] == ["w1"]
    with pytest.raises(LedgerUnavailable, match=r"security\.md"):
        dashboard.announce("w2", {}, ttl_seconds=60)
    assert [facts["worker"] for facts in worker.workers()] == ["w1"]
    worker.close()
    dashboard.close()


async def test_an_orchestrator_keeps_a_record_and_a_dashboard_reads_all_of_it(guarded: GuardedRedis) -> None:
    keeper, reader = (
        RedisStore(guarded.url_of(role), namespace="rollforward") for role in ("orchestrator", "dashboard")
    )
    ownership = await fill(keeper)
    await keeper.renew(ownership, lease=LONG, health="well")
    for store in (keeper, reader):
        assert (await store.find("run-")).run_id == "run-1"
        assert [run.health for run in await store.list_runs(RunFilter())] == ["well"]
        assert len(await store.steps("run-1")) == 2
        assert len(await reports_of(store)) == 1
        assert len(await errors_of(store)) == 1
        assert (await store.tally("run-1", FAN_OUT.id)).losses == 1
        assert len(await store.losses("run-1", FAN_OUT.id)) == 1
        assert await store.load("run-1")
    with pytest.raises(CheckpointUnavailable, match=r"security\.md"):
        await reader.finish(ownership, RunStatus.FAILED)
    with pytest.raises(CheckpointUnavailable, match=r"security\.md"):
        await reader.delete("run-1")
    await keeper.request_cancel("run-1")
    await keeper.finish(ownership, RunStatus.CANCELLED)
    await keeper.delete("run-1")
    assert await reader.list_runs(RunFilter()) == []
    await keeper.close()
    await reader.close()


@pytest.mark.parametrize("verb", ["queue", "close", "reset", "forget"])
async def test_a_worker_closes_no_instance_and_ends_no_run_by_the_verbs_of_an_owner(
    guarded: GuardedRedis, verb: str
) -> None:
    owner, guest = (RedisLedger(guarded.url_of(role)) for role in ("orchestrator", "worker"))
    worker = RedisWorkerLedger(guarded.url_of("worker"))
    case = LedgerCase(worker, owner)
    await case.opened(slot(0), slot(1))
    await case.close(slot(1))
    before = kept_in(guarded)
    verbs_of_guest = every_verb(LedgerCase(worker, guest), EPOCH, [slot(0), slot(2)])
    with pytest.raises(LedgerUnavailable, match=r"security\.md"):
        await (guest.forget(RUN, EPOCH) if verb == "forget" else verbs_of_guest[verb]())
    assert kept_in(guarded) == before
    worker.close()
    for ledger in (owner, guest):
        await ledger.close_connections()


def kept_in(guarded: GuardedRedis) -> dict[bytes, bytes | None]:
    """What says whose each run is, and what of it is recorded."""
    with guarded.client() as client:
        return {key: client.dump(key) for key in client.keys("rollforward:*") if key.endswith((b":closed", b":meta"))}


@pytest.mark.parametrize("role", ["worker", "flower"])
@pytest.mark.parametrize("verb", sorted(verbs(RECORD)))
def test_no_verb_of_the_record_is_for_a_worker_or_flower(guarded: GuardedRedis, role: str, verb: str) -> None:
    lua = script(RECORD, verb)
    with guarded.client() as client:
        client.script_load(lua.text)
    with guarded.client_of(role) as client, pytest.raises(NoPermissionError):
        client.evalsha(lua.sha, 2, "rollforward:cp:{r}:", "rollforward:cp:", 1)


@pytest.mark.parametrize(
    "call",
    [
        "'HGETALL', 'rollforward:cp:{r}:run'",
        "'HSET', 'rollforward:cp:{r}:run', 'epoch', 9",
        "'SET', 'rollforward:cp:{r}:run', ''",
        "'DEL', 'rollforward:cp:{r}:run'",
        "'UNLINK', 'rollforward:run:{r}:meta'",
        "'SETBIT', 'rollforward:run:{r}:f:closed', 1, 1",
        "'FLUSHALL'",
    ],
)
def test_a_script_of_its_own_lets_a_worker_do_no_more(guarded: GuardedRedis, call: str) -> None:
    with guarded.client_of("worker") as client:
        sha = client.script_load(f"return redis.call({call})")
        with pytest.raises(ResponseError) as denied:
            client.evalsha(sha, 0)
    assert advice_for(denied.value) == advice_for(NoPermissionError())


@pytest.mark.parametrize("role", ["worker", "orchestrator"])
def test_doctor_refuses_nothing_for_what_a_role_may_not_see(guarded: GuardedRedis, cli: CommandLine, role: str) -> None:
    url = guarded.url_of(role)
    asking = CommandLine(cli.folder, {"ROLLFORWARD_REDIS_URL": url}, cli.mark)
    findings = asking.ok("doctor", "-o", "json").document["findings"]
    assert [finding for finding in findings if finding["severity"] == "refused"] == []


def test_no_password_is_kept_as_it_is(guarded: GuardedRedis) -> None:
    kept = [path.read_text() for path in guarded.folder.glob("tmp.*")]
    assert len(kept) == 1
    assert "@" not in kept[0].replace("-@all", "").replace("+@all", "")
    assert not any(role[::-1] in kept[0] for role in ROLES)


def test_without_a_password_there_is_no_server() -> None:
    ended = subprocess.run(
        ["sh", str(START)], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=10
    )
    assert (ended.returncode, ended.stderr) == (1, "REDIS_OPERATOR_PASSWORD is not set\n")
