"""What is promised of the ledger in Redis beyond the contract of every ledger."""

import asyncio
import logging
import multiprocessing
from collections.abc import AsyncIterator, Callable

import pytest

from backends.ledgers.redis import RedisLedger, RedisWorkerLedger
from backends.ledgers.redis import orchestrator as orchestrator_module
from backends.ledgers.redis.client import without_password
from backends.ledgers.redis.whereabouts import FEWEST
from orchestrator.bitmap import Bitmap
from orchestrator.errors import LedgerLost, LedgerUnavailable
from orchestrator.ledger.claim import Beat, Held, Reported, Verdict
from orchestrator.ledger.view import Opening, Progress, QueueAnswer, QueuedItem
from orchestrator.seal import Seal
from tests.contract.ledger_case import EPOCH, FAN_OUT, RUN, LedgerCase, owner, redis_case, report_of, slot
from tests.service.redis import RedisServer
from tests.service.worker import wait_until


@pytest.fixture
async def case(redis_url) -> AsyncIterator[LedgerCase]:
    async for made in redis_case(redis_url):
        yield made


@pytest.fixture
async def connect(redis_url):
    """Makes a ledger on the server's own clock, under these secrets on its two ends."""
    made = []

    def build(worker_keys=(), orchestrator_keys=(), url=redis_url) -> LedgerCase:
        worker = RedisWorkerLedger(url, seal=Seal(worker_keys))
        orchestrator = RedisLedger(url, seal=Seal(orchestrator_keys))
        made.append((worker, orchestrator))
        return LedgerCase(worker, orchestrator)

    yield build
    for worker, orchestrator in made:
        worker.close()
        await orchestrator.close_connections()


async def test_a_wiped_ledger_is_lost_until_it_is_opened_again(case, redis_server):
    await case.opened(slot(0))
    case.claim(slot(0))
    with redis_server.client() as client:
        client.flushall()
    with pytest.raises(LedgerLost):
        await case.sweep(slot(0))
    assert case.beat(slot(0)) is Beat.LOST
    assert case.report(slot(0)) is Reported.STALE
    await case.opened(slot(0))
    assert case.verdict(slot(0)) is Verdict.OK


async def test_scripts_that_the_server_has_forgotten_are_sent_again(case, redis_server):
    await case.opened(slot(0))
    with redis_server.client() as client:
        client.script_flush()
    assert case.verdict(slot(0)) is Verdict.OK
    with redis_server.client() as client:
        client.script_flush()
    assert await case.queue(slot(1)) == [QueueAnswer.OK]


async def test_every_key_stands_under_one_pattern_and_those_of_a_live_run_never_expire(case, redis_server):
    await case.opened(slot(0), slot(1))
    case.ask(slot(0), slot(1))
    case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
    case.report(slot(1))
    case.worker.announce("w1", {}, ttl_seconds=15)
    with redis_server.client() as client:
        keys = {key.decode(): client.ttl(key) for key in client.keys("*")}
    assert all(key.startswith("rollforward:run:") for key in keys)
    of_run = {key: ttl for key, ttl in keys.items() if "{run-1}" in key}
    assert len(of_run) == 9
    assert set(of_run.values()) == {-1}


async def test_a_forgotten_run_leaves_a_tombstone_for_a_day_and_nothing_else(case, redis_server):
    await case.opened(slot(0), slot(1))
    case.ask(slot(0), slot(1))
    case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
    case.report(slot(1))
    await case.close(slot(1))
    case.worker.release(owner(), has_died=True)
    await case.orchestrator.forget(RUN, EPOCH)
    with redis_server.client() as client:
        (key,) = client.keys("*")
        assert key == b"rollforward:run:{run-1}:tombstone"
        assert 86_000 < client.ttl(key) <= 86_400


async def test_nothing_is_left_of_a_closed_slot_but_its_bit_and_the_last_notices(case, redis_server):
    await case.opened(slot(0))
    case.claim(slot(0))
    case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
    case.report(slot(0))
    await case.close(slot(0))
    with redis_server.client() as client:
        prefix = f"rollforward:run:{{run-1}}:{FAN_OUT}"
        left = [f"{prefix}:{name}".encode() for name in ("closed", "head", "wake")]
        assert sorted(client.keys(f"{prefix}:*")) == left
        assert client.get(f"{prefix}:closed") == b"\x80\x00\x00"


FORGED = [b"", b"\xc1", b"\x93", b"\x92\xcb", b"\x01", b"\x91\xa1x", b"\x92\xa1x\x01", b"\x92\xce\xff\xff\xff\xff\xa1{"]
FAR = b"\x92\xce\xff\xff\xff\xff"
"""A time that is not over for long, and what stands beside it."""


@pytest.mark.parametrize("forged", [*FORGED, FAR + b"\xc0", FAR + b"\xa2[]", FAR + b"\xa2{}", FAR + b"\x91\x01"])
def test_what_others_put_into_the_registry_hides_no_worker(connect, redis_server, forged):
    worker = connect().worker
    worker.announce("w1", {"slots": 2}, ttl_seconds=60)
    with redis_server.client() as client:
        client.hset("rollforward:run:workers", "forged", forged)
    assert [facts["worker"] for facts in worker.workers()] == ["w1"]
    worker.announce("w2", {}, ttl_seconds=60)
    assert [facts["worker"] for facts in worker.workers()] == ["w1", "w2"]


def test_a_worker_that_comes_clears_away_those_that_are_gone(connect, redis_server):
    worker = connect().worker
    worker.announce("gone", {}, ttl_seconds=0)
    worker.announce("w1", {}, ttl_seconds=60)
    with redis_server.client() as client:
        assert client.hkeys("rollforward:run:workers") == [b"w1"]


async def test_progress_that_the_client_sent_twice_is_kept_once(case, redis_server, monkeypatch):
    await case.opened(slot(0))
    case.claim(slot(0))
    monkeypatch.setattr("secrets.token_hex", lambda _: "the same call")
    for _ in range(2):
        assert case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
    assert case.claim(slot(0)).progress == (b"a",)


async def _queued_again(case):
    while True:
        if await case.queue(slot(0)) == [QueueAnswer.OK]:
            return
        await asyncio.sleep(0.01)


async def test_leases_end_by_the_servers_clock(connect):
    case = connect()
    await case.opened(slot(0))
    case.ask(slot(0), ttl=0.05)
    assert case.verdict(slot(0), "t2") is Verdict.BUSY
    async with asyncio.timeout(5):
        await _queued_again(case)
    assert case.claim(slot(0), "t2").delivery == 2


async def test_reports_of_other_fan_outs_cost_a_waiting_orchestrator_nothing(case, redis_server):
    await case.opened(slot(0))
    others = await case.in_other(0, 1, 2, 3)
    waiting = asyncio.create_task(case.reports(wait=0.5))
    with redis_server.client() as client:
        await asyncio.to_thread(wait_until, lambda: client.info("clients")["blocked_clients"], what="it waits")
        before = client.info("commandstats")["cmdstat_xread"]["calls"]
        for one in others:
            case.worker.report(RUN, [report_of(one)])
        assert await waiting == []
        assert client.info("commandstats")["cmdstat_xread"]["calls"] == before


BOTH = "+ping +select +client +script|load +evalsha +time +exists +getbit"
BOTH += " +hget +hmget +hset +hdel +hgetall +lrange +smembers"
WORKER = f"{BOTH} +rpush +sadd +srem +expire +del +xadd"
OWNER = f"{BOTH} +hkeys +hstrlen +hsetnx +hincrby +get +set +setbit +sadd +srem +del +unlink +xread +xrevrange"


async def test_each_end_gets_by_with_few_commands_on_one_key_pattern(connect, redis_server, redis_url):
    with redis_server.client() as admin:
        for user, commands in (("worker", WORKER), ("owner", OWNER)):
            rules = ("reset", "on", ">secret", "~rollforward:run:*", "-@all", *commands.split())
            admin.execute_command("ACL", "SETUSER", user, *rules)
        try:
            await _use_every_verb(connect, redis_url)
        finally:
            admin.execute_command("ACL", "DELUSER", "worker", "owner")


async def _use_every_verb(connect: Callable[..., LedgerCase], redis_url: str) -> None:
    worker = connect(url=redis_url.replace("//", "//worker:secret@")).worker
    orchestrator = connect(url=redis_url.replace("//", "//owner:secret@")).orchestrator
    case = LedgerCase(worker, orchestrator)
    await case.open(5)
    await case.queue(slot(0), slot(1), slot(2))
    worker.announce("w1", {}, ttl_seconds=15)
    assert worker.workers()
    assert worker.briefing(RUN, FAN_OUT) == b"brief"
    worker.decline(RUN, [slot(2)], worker="w1", reason="r")
    case.ask(slot(0), slot(1))
    assert case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
    assert case.beat(slot(0)) is Beat.OK
    assert case.report(slot(1)) is Reported.OK
    assert await case.reports(wait=0.01)
    assert worker.owners("host:boot:ns") == [owner()]
    assert worker.release(owner(), has_died=True) == 1
    assert await orchestrator.live(RUN, FAN_OUT)
    assert (await case.sweep(slot(0), slot(1), slot(2))).lapsed
    await case.close(slot(1))
    assert await case.reports(wait=0.01) == []
    await case.queue(slot(0))
    assert case.claim(slot(0), "t2").progress == (b"a",)
    await orchestrator.reset(RUN, EPOCH, [slot(1, 1)])
    await orchestrator.cancel(RUN, EPOCH)
    await orchestrator.forget(RUN, EPOCH, fan_out=FAN_OUT)
    await orchestrator.forget(RUN, EPOCH)
    worker.withdraw("w1")


class TestSeal:
    async def test_a_sealed_report_is_believed_under_any_of_our_secrets(self, connect):
        case = connect(["old"], ["new", "old"])
        await case.opened(slot(0))
        case.claim(slot(0))
        assert case.report(slot(0)) is Reported.OK
        assert await case.reports() == [report_of(slot(0))]

    async def test_sealed_reports_are_read_where_no_secret_is_set(self, connect):
        case = connect(["secret"], [])
        await case.opened(slot(0))
        case.claim(slot(0))
        case.report(slot(0))
        assert await case.reports() == [report_of(slot(0))]

    @pytest.mark.parametrize("keys", [(), ("wrong",)])
    async def test_an_unsealed_or_foreign_report_is_refused_and_its_instance_runs_again(self, connect, caplog, keys):
        case = connect(keys, ["secret"])
        await case.opened(slot(0))
        case.claim(slot(0))
        assert case.report(slot(0)) is Reported.OK
        with caplog.at_level(logging.ERROR):
            assert await case.reports() == []
        assert "report refused" in caplog.text
        assert [one.slot for one in (await case.sweep(slot(0))).lapsed] == [slot(0)]
        assert case.report(slot(0)) is Reported.STALE
        await case.queue(slot(0))
        assert case.claim(slot(0), "t2").delivery == 2

    @pytest.mark.parametrize("field", ["0", "1"])
    async def test_a_forged_report_is_refused(self, connect, redis_server, field):
        case = connect(["secret"], ["secret"])
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        case.report(slot(0))
        case.report(slot(1))
        kept = f"rollforward:run:{{run-1}}:{FAN_OUT}:reports"
        with redis_server.client() as client:
            genuine = client.hget(kept, "1" if field == "0" else "0")
            client.hset(kept, field, genuine)
        assert [str(one.slot.index) for one in await case.reports()] == ["1" if field == "0" else "0"]

    async def test_a_report_of_another_run_is_refused(self, connect, redis_server):
        case = connect(["secret"], ["secret"])
        await case.opened(slot(0))
        case.claim(slot(0))
        case.report(slot(0))
        with redis_server.client() as client:
            text = client.hget(f"rollforward:run:{{run-1}}:{FAN_OUT}:reports", "0")
            client.hset(f"rollforward:run:{{run-2}}:{FAN_OUT}:reports", "0", text)
            client.hset("rollforward:run:{run-2}:meta", "epoch", EPOCH)
            client.sadd("rollforward:run:{run-2}:fan_outs", FAN_OUT)
        assert await case.orchestrator.reports("run-2", [FAN_OUT], wait_seconds=0) == []

    @pytest.mark.parametrize("keys", [(), ("wrong",)])
    async def test_what_an_instance_is_said_to_have_told_is_believed_only_under_our_secret(self, connect, keys):
        ours, foreign = connect(["secret"], ["secret"]), connect(keys, ["secret"])
        await ours.opened(slot(0))
        ours.claim(slot(0))
        for teller, entry in ((ours, b"first"), (foreign, b"forged"), (ours, b"last")):
            assert teller.worker.progress(RUN, Held(slot(0), "t1"), [entry])
        assert await ours.orchestrator.told(RUN, EPOCH, {slot(0): 0}) == [Progress(3, (b"first", b"last"))]
        ours.worker.release(owner(), has_died=True)
        await ours.queue(slot(0))
        assert ours.claim(slot(0), "t2").progress == (b"first", b"last")

    @pytest.mark.parametrize("place", ["another instance", "another run"])
    async def test_what_was_told_elsewhere_is_not_believed_here(self, connect, redis_server, place):
        case = connect(["secret"], ["secret"])
        run_id, here = (RUN, slot(1)) if place == "another instance" else ("run-2", slot(0))
        await case.opened(slot(0), slot(1))
        await case.orchestrator.open("run-2", EPOCH, Opening(FAN_OUT, Bitmap(4), b"", "hash"))
        await case.orchestrator.queue("run-2", EPOCH, [QueuedItem(slot(0), b"")], claim_deadline_seconds=30)
        case.ask(slot(0), slot(1))
        case.worker.claim("run-2", [slot(0)], owner=owner(), token="t1", ttl_seconds=15)
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"told"])
        case.worker.progress(run_id, Held(here, "t1"), [b"own"])
        kept = "rollforward:run:{{{}}}:" + FAN_OUT + ":progress:{}"
        with redis_server.client() as client:
            (told,) = client.lrange(kept.format(RUN, 0), 0, -1)
            client.rpush(kept.format(run_id, here.index), told)
        assert await case.orchestrator.told(run_id, EPOCH, {here: 0}) == [Progress(2, (b"own",))]

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b" {}",
            b"garbage",
            b" [1]",
            b" {\xff",
            b" null",
            b'x {"slot": 1}',
            pytest.param(b" " + b"[" * 100_000, id="deep"),
        ],
    )
    async def test_what_is_no_report_is_refused(self, case, redis_server, text):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.report(slot(0))
        with redis_server.client() as client:
            client.hset(f"rollforward:run:{{run-1}}:{FAN_OUT}:reports", "0", text)
        assert await case.reports() == []
        assert (await case.sweep(slot(0))).lapsed


class TestRelease:
    """Whoever releases an owner asks no more runs than are open, however many there have been."""

    async def claim_in(self, case, run_id):
        await case.orchestrator.open(run_id, EPOCH, Opening(FAN_OUT, Bitmap(4), b"", "hash"))
        await case.orchestrator.queue(run_id, EPOCH, [QueuedItem(slot(0), b"")], claim_deadline_seconds=30)
        (answer,) = case.worker.claim(run_id, [slot(0)], owner=owner(), token=f"of {run_id}", ttl_seconds=15)
        assert answer.verdict is Verdict.OK

    @pytest.mark.parametrize("open_runs", [0, 3, 40])
    async def test_runs_that_are_over_cost_a_release_nothing(self, case, redis_server, open_runs):
        for number in range(open_runs):
            await self.claim_in(case, f"open-{number}")
        for number in range(200):
            await self.claim_in(case, f"over-{number}")
            await case.orchestrator.forget(f"over-{number}", EPOCH)
        with redis_server.client() as client:
            before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            assert case.worker.release(owner(), has_died=True) == open_runs
            calls = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
        assert open_runs <= calls <= max(FEWEST, 2 * open_runs) + 1

    async def test_a_run_that_is_opened_again_after_it_was_found_over_is_reached(self, case):
        await self.claim_in(case, RUN)
        await case.orchestrator.forget(RUN, EPOCH)
        for number in range(FEWEST + 1):
            await self.claim_in(case, f"open-{number}")
        await self.claim_in(case, RUN)
        assert case.worker.release(owner(), has_died=True) == FEWEST + 2

    async def test_a_claim_in_a_run_where_one_has_claimed_before_is_one_call(self, case, redis_server):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0))
        with redis_server.client() as client:
            client.config_resetstat()
            case.claim(slot(1), "t2")
            told = client.info("commandstats")
        assert told["cmdstat_evalsha"]["calls"] == 1
        assert "cmdstat_sadd" not in told


class TestLoss:
    async def test_what_is_claimed_after_redis_was_emptied_is_released_with_its_owner(
        self, case, connect, redis_server
    ):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        with redis_server.client() as client:
            client.flushall()
        await case.opened(slot(0))
        case.claim(slot(0), "t2")
        assert connect().worker.release(owner(), has_died=True) == 1


class TestClock:
    """The clock is the server's, and may be set back: then nothing is waited for longer than it lasts."""

    async def test_a_lease_ends_in_its_own_time(self, case):
        await case.opened(slot(0), slot(1))
        case.claim(slot(0))
        case.clock.advance(-10_000)
        assert case.beat(slot(0)) is Beat.OK
        case.claim(slot(1), by=owner("w2"))
        case.clock.advance(-500)
        assert (await case.sweep(slot(0), slot(1))).lapsed == ()
        case.clock.advance(15.1)
        assert [lapse.slot for lapse in (await case.sweep(slot(0), slot(1))).lapsed] == [slot(0), slot(1)]

    async def test_a_lease_that_is_extended_after_it_is_kept(self, case):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.clock.advance(-10_000)
        await case.sweep(slot(0))
        case.clock.advance(10)
        assert case.beat(slot(0)) is Beat.OK
        case.clock.advance(10)
        assert (await case.sweep(slot(0))).lapsed == ()

    async def test_a_message_is_missed_in_its_own_time(self, case):
        await case.opened(slot(0))
        case.clock.advance(-10_000)
        assert (await case.sweep(slot(0))).overdue == ()
        case.clock.advance(30.1)
        assert [one.slot for one in (await case.sweep(slot(0))).overdue] == [slot(0)]


class TestSize:
    async def test_one_answer_tells_no_more_than_its_limit_and_the_rest_comes_after_it(self, case, monkeypatch):
        monkeypatch.setattr(orchestrator_module, "LARGEST_ANSWER_BYTES", 1)
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a", b"b"])
        case.worker.progress(RUN, Held(slot(1), "t1"), [b"c"])
        since, heard = {slot(0): 0, slot(1): 0}, []
        for _ in range(3):
            answers = await case.orchestrator.told(RUN, EPOCH, since)
            heard += [entry for answer in answers for entry in answer.entries]
            since = {one: answer.end for one, answer in zip(since, answers, strict=True)}
        assert (heard, list(since.values())) == ([b"a", b"b", b"c"], [2, 1])

    async def test_one_answer_holds_no_more_reports_than_its_limit_and_the_rest_comes_after_them(
        self, case, monkeypatch
    ):
        monkeypatch.setattr(orchestrator_module, "LARGEST_ANSWER_BYTES", 1)
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        case.worker.report(RUN, [report_of(slot(0)), report_of(slot(1))])
        (first,) = await case.reports()
        await case.close(first.slot)
        (second,) = await case.reports()
        assert {first.slot, second.slot} == {slot(0), slot(1)}

    async def test_large_items_are_queued_in_several_calls(self, case, monkeypatch):
        monkeypatch.setattr(orchestrator_module, "LARGEST_CALL_BYTES", 10)
        await case.open()
        items = [QueuedItem(slot(index), b"x" * 8) for index in range(5)]
        answers = await case.orchestrator.queue(RUN, EPOCH, items, claim_deadline_seconds=30)
        assert answers == [QueueAnswer.OK] * 5
        assert [one.claimed.item for one in case.ask(*(slot(index) for index in range(5)))] == [b"x" * 8] * 5

    def test_what_is_recorded_inside_instances_counts_for_the_size_of_a_call(self, monkeypatch):
        monkeypatch.setattr(orchestrator_module, "LARGEST_CALL_BYTES", 10)
        items = [QueuedItem(slot(index), b"", progress=(b"x" * 4, b"x" * 4)) for index in range(3)]
        assert [len(batch) for batch in orchestrator_module._batches(items)] == [1, 1, 1]


class TestUnavailable:
    async def test_both_ends_say_what_to_do_and_keep_the_password(self, connect, monkeypatch):
        monkeypatch.setattr("backends.ledgers.redis.client._RETRIES", 0)
        case = connect(url="redis://user:hunter2@127.0.0.1:1/0")
        with pytest.raises(LedgerUnavailable, match=r"redis://127\.0\.0\.1:1/0.*ROLLFORWARD_REDIS_URL") as sync:
            case.claim(slot(0))
        with pytest.raises(LedgerUnavailable, match=r"redis://127\.0\.0\.1:1/0.*ROLLFORWARD_REDIS_URL") as waiting:
            await case.reports(wait=1)
        assert "hunter2" not in f"{sync.value}{waiting.value}"

    async def test_a_full_redis_is_unavailable_until_there_is_room(self, case, redis_server):
        await case.opened(slot(0))
        with redis_server.client() as client:
            client.config_set("maxmemory", 1)
            try:
                with pytest.raises(LedgerUnavailable, match="maxmemory"):
                    case.claim(slot(0))
                with pytest.raises(LedgerUnavailable, match="maxmemory"):
                    await case.queue(slot(1))
            finally:
                client.config_set("maxmemory", 0)
        assert case.verdict(slot(0)) is Verdict.OK

    async def test_a_full_redis_gives_what_instances_have_told_all_the_same(self, case, redis_server):
        await case.opened(slot(0))
        case.claim(slot(0))
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
        with redis_server.client() as client:
            client.config_set("maxmemory", 1)
            try:
                assert await case.orchestrator.told(RUN, EPOCH, {slot(0): 0}) == [Progress(1, (b"a",))]
            finally:
                client.config_set("maxmemory", 0)
        await case.open(epoch=EPOCH + 1)
        assert await case.orchestrator.told(RUN, EPOCH + 1, {slot(0): 0}) == [Progress(1, (b"a",), repeated=1)]

    async def test_a_replica_is_unavailable_for_writes(self, case, redis_server):
        await case.opened(slot(0))
        with redis_server.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            try:
                with pytest.raises(LedgerUnavailable, match="primary"):
                    case.claim(slot(0))
            finally:
                client.execute_command("REPLICAOF", "NO", "ONE")
        assert case.verdict(slot(0)) is Verdict.OK

    async def test_whoever_waits_when_it_becomes_a_replica_is_told_that_it_is_away(self, case, redis_server):
        await case.opened(slot(0))
        waiting = asyncio.create_task(case.reports(wait=20))
        with redis_server.client() as client:
            try:
                while client.info("clients")["blocked_clients"] == 0:
                    await asyncio.wait([waiting], timeout=0.01)
                client.execute_command("REPLICAOF", "127.0.0.1", "1")
                with pytest.raises(LedgerUnavailable, match="primary"):
                    await waiting
            finally:
                client.execute_command("REPLICAOF", "NO", "ONE")

    async def test_a_restart_is_ridden_out_with_what_was_known(self, tmp_path, connect):
        server = RedisServer(tmp_path).start()
        try:
            case = connect(url=server.url)
            await case.opened(slot(0))
            case.claim(slot(0))
            waiting = asyncio.create_task(case.reports(wait=20))
            await asyncio.wait([waiting], timeout=0.1)
            server.kill()
            server.start()
            assert case.report(slot(0)) is Reported.OK
            assert [one.slot for one in await waiting] == [slot(0)]
        finally:
            server.stop()

    def test_a_url_is_shown_without_what_is_secret(self):
        assert without_password("rediss://u:p@host:6380/2?ssl_ca_certs=x") == "rediss://host:6380/2"
        assert without_password("unix://u@/tmp/r.sock?db=1&password=p") == "unix:///tmp/r.sock"


async def test_a_ledger_on_a_unix_socket_works(tmp_path, connect):
    server = RedisServer(tmp_path, unix_socket=True).start()
    try:
        case = connect(url=server.url)
        await case.opened(slot(0))
        assert case.verdict(slot(0)) is Verdict.OK
    finally:
        server.stop()


def _claim_in_child(ledger, verdicts):
    answers = ledger.claim(RUN, [slot(0)], owner=owner("child"), token="child", ttl_seconds=15)
    ledger.close()
    verdicts.put(answers[0].verdict)


async def test_a_forked_child_has_connections_of_its_own(case):
    await case.opened(slot(0))
    assert case.verdict(slot(1)) is Verdict.UNKNOWN
    fork = multiprocessing.get_context("fork")
    verdicts = fork.SimpleQueue()
    child = fork.Process(target=_claim_in_child, args=(case.worker, verdicts))
    child.start()
    child.join()
    assert verdicts.get() is Verdict.OK
    assert case.verdict(slot(0), "t2") is Verdict.BUSY
    verdicts.close()
    child.close()


def test_each_loop_has_connections_of_its_own(redis_url):
    ledger = RedisLedger(redis_url)

    async def use() -> None:
        await ledger.forget(RUN, EPOCH)
        await ledger.close_connections()
        await ledger.close_connections()

    for _ in range(2):
        asyncio.run(use())
