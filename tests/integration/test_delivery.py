"""What a worker process does with a message while orchestrators change."""

import asyncio
import logging
from dataclasses import replace

import pytest

from backends.ledgers.redis.orchestrator import RedisLedger
from backends.telemetry.prometheus import PrometheusMeter, WithoutCreated
from orchestrator.bitmap import Bitmap
from orchestrator.execution.briefing import Briefing
from orchestrator.identity import FanOutKey, Slot
from orchestrator.ledger.view import Opening, QueuedItem
from orchestrator.metrics.metric import METRICS_OF_WORKER_PROCESSES
from orchestrator.report import Outcome
from orchestrator.tracing.tracing import Untraced
from tests.graph import tiny
from workers.delivery import claim, deliver
from workers.message import Message, encode
from workers.runtime import ProcessRuntime
from workers.settings import Settings

RUN, FAN_OUT = "run-of-delivery", FanOutKey((), "pieces")
SLOT = Slot(FAN_OUT.id, 0)

BRIEFING = Briefing(
    run_id=RUN,
    invocation_id="first",
    correlation_id=RUN,
    graph=tiny.graph.name,
    fingerprint=tiny.graph.fingerprint,
    fan_out=FAN_OUT,
    inputs=tiny.piece.codec.dump_fields({"act": "double"}),
    instance_count=1,
    max_result_bytes=5_000,
)
PLACE = {
    "run_id": RUN,
    "invocation_id": "first",
    "correlation_id": RUN,
    "node": "pieces",
    "index": 0,
    "delivery": 1,
}


class Overtaken:
    """A worker's ledger in which `happens` comes to pass between a claim, or another verb, and what follows it."""

    def __init__(self, ledger, happens, after="claim"):
        self._ledger = ledger
        self._happens = happens
        self._after = after

    def __getattr__(self, name):
        verb = getattr(self._ledger, name)
        return self._overtaken(verb) if name == self._after else verb

    def _overtaken(self, verb):
        def asked(*args, **kwargs):
            answers = verb(*args, **kwargs)
            self._happens()
            return answers

        return asked


@pytest.fixture
async def ledger(redis_url):
    made = RedisLedger(redis_url)
    await opened(made, BRIEFING, epoch=1)
    item = QueuedItem(SLOT, tiny.piece.codec.dump_fields({"number": 4}).encode())
    await made.queue(RUN, 1, [item], claim_deadline_seconds=30)
    yield made
    await made.close_connections()


@pytest.fixture
def meter():
    return PrometheusMeter(METRICS_OF_WORKER_PROCESSES)


@pytest.fixture
def process(redis_url, meter):
    made = ProcessRuntime(Settings(redis_url=redis_url, graphs=("tests.graph.tiny",)), "w@test", meter=meter)
    yield made
    made.close()


async def opened(ledger, briefing, *, epoch):
    text = briefing.to_json()
    await ledger.open(RUN, epoch, Opening(FAN_OUT.id, Bitmap(1), text, Briefing.hash_of(text)))


async def delivered(process, happens, *, fingerprint=BRIEFING.fingerprint, after="claim"):
    """Deliver the message; `happens` is called once the slot is claimed."""
    process.ledger = Overtaken(process.ledger, happens, after)
    message = Message(run_id=RUN, fan_out=FAN_OUT.id, places=((0, 0),), graph=BRIEFING.graph, fingerprint=fingerprint)
    return await asyncio.to_thread(deliver, encode(message, process.seal), process)


def takeover(ledger, **changes):
    """Another orchestrator opens the fan-out again, with a briefing of its own."""
    loop = asyncio.get_running_loop()

    def take_over():
        opening = opened(ledger, replace(BRIEFING, **changes), epoch=2)
        asyncio.run_coroutine_threadsafe(opening, loop).result(timeout=10)

    return take_over


async def test_a_takeover_between_claim_and_briefing_costs_nothing(ledger, process):
    (report,) = await delivered(process, takeover(ledger, invocation_id="second"))
    assert (report.outcome, report.invocation_id, report.delivery) == (Outcome.SUCCEEDED, "second", 1)
    assert await ledger.reports(RUN, [FAN_OUT.id], wait_seconds=0) == [report]


async def test_a_takeover_by_another_version_of_the_graph_fails_no_instance(ledger, process, caplog):
    with caplog.at_level(logging.WARNING):
        assert await delivered(process, takeover(ledger, fingerprint="0" * 16)) == []
    assert await ledger.reports(RUN, [FAN_OUT.id], wait_seconds=0) == []
    (record,) = [record for record in caplog.records if record.message == "instance left alone"]
    assert record.__dict__.items() >= PLACE.items()
    assert "0" * 16 in record.reason


async def test_a_report_that_is_not_taken_is_logged_with_where_its_instance_belongs(ledger, process, caplog):
    loop = asyncio.get_running_loop()

    def forget():
        asyncio.run_coroutine_threadsafe(ledger.forget(RUN, 1), loop).result(timeout=10)

    with caplog.at_level(logging.INFO):
        assert await delivered(process, forget, after="briefing") == []
    (record,) = [record for record in caplog.records if record.message == "report not taken"]
    assert record.__dict__.items() >= PLACE.items()


@pytest.mark.parametrize(("count", "in_thread", "is_alone"), [(1, False, True), (2, False, False), (1, True, False)])
async def test_an_instance_is_alone_that_is_the_only_one_of_a_message_on_the_main_thread(
    ledger, process, count, in_thread, is_alone
):
    item = QueuedItem(Slot(FAN_OUT.id, 1), tiny.piece.codec.dump_fields({"number": 5}).encode())
    await ledger.queue(RUN, 1, [item], claim_deadline_seconds=30)
    places = tuple((index, 0) for index in range(count))
    message = Message(
        run_id=RUN, fan_out=FAN_OUT.id, places=places, graph=BRIEFING.graph, fingerprint=BRIEFING.fingerprint
    )
    leases = await asyncio.to_thread(claim, message, process) if in_thread else claim(message, process)
    assert [lease.is_alone for lease in leases] == [is_alone] * count
    for lease in leases:
        process.leases.remove(lease)


def key_of(part):
    return f"rollforward:run:{{{RUN}}}:{FAN_OUT.id}:{part}"


def forge(client, what, forged):
    name, field = ("items", "0") if what == "item" else ("head", "briefing")
    if forged is None:
        client.hdel(key_of(name), field)
    else:
        client.hset(key_of(name), field, forged)


@pytest.mark.parametrize(
    ("what", "forged"),
    [
        ("item", b""),
        ("item", b"[" * 100_000),
        ("item", b'["key", {"traceparent": 1}]\n{}'),
        ("item", None),
        ("briefing", b"\xff"),
        ("briefing", b"[" * 100_000),
        ("briefing", b'{"run_id": "r"}'),
    ],
    ids=["no item", "a deep item", "an item of wrong facts", "a missing item", "no text", "a deep one", "too little"],
)
async def test_what_others_put_into_the_ledger_ends_the_delivery_and_frees_the_slot(
    ledger, process, redis_server, caplog, what, forged
):
    with redis_server.client() as client, caplog.at_level(logging.ERROR):
        forge(client, what, forged)
        assert await delivered(process, lambda: None) == []
    assert [record.message for record in caplog.records] == [f"{what} refused"]
    assert [one.slot for one in (await ledger.sweep(RUN, 1, [SLOT])).lapsed] == [SLOT]
    await opened(ledger, BRIEFING, epoch=1)
    item = QueuedItem(SLOT, tiny.piece.codec.dump_fields({"number": 4}).encode())
    await ledger.queue(RUN, 1, [item], claim_deadline_seconds=30)
    (report,) = await delivered(process, lambda: None)
    assert (report.outcome, report.delivery) == (Outcome.SUCCEEDED, 2)


async def test_a_ledger_that_is_emptied_after_the_claim_ends_the_delivery(ledger, process, redis_server):
    def wipe():
        with redis_server.client() as client:
            client.flushall()

    assert await delivered(process, wipe) == []


class Broken(Untraced):
    """Fails where nobody expects it."""

    def instance(self, *_given, **_more):
        raise RuntimeError("a bug")


async def test_what_nobody_expects_is_reported_as_a_failure(ledger, process, caplog):
    process.runtime = replace(process.runtime, tracing=Broken())
    (report,) = await delivered(process, lambda: None)
    assert (report.outcome, report.error.message, report.delivery) == (Outcome.FAILED, "a bug", 1)
    assert await ledger.reports(RUN, [FAN_OUT.id], wait_seconds=0) == [report]
    (record,) = [record for record in caplog.records if record.message == "instance could not be run"]
    assert record.__dict__.items() >= {"run_id": RUN, "index": 0, "delivery": 1}.items()
    assert record.exc_info is not None


@pytest.mark.parametrize(("hard_limit", "has_died"), [(None, False), (60.0, False), (0.001, True)])
async def test_a_process_that_is_asked_to_end_hands_back_what_it_claimed(ledger, process, hard_limit, has_died):
    process.settings = process.settings.model_copy(update={"hard_limit_seconds": hard_limit})

    def end():
        raise SystemExit

    with pytest.raises(SystemExit):
        await delivered(process, end)
    (lapse,) = (await ledger.sweep(RUN, 1, [SLOT])).lapsed
    assert lapse.alone is has_died


async def test_what_a_delivery_has_held_is_company_for_nobody_afterwards(ledger, process):
    (report,) = await delivered(process, lambda: None)
    assert (report.outcome, process.leases.all()) == (Outcome.SUCCEEDED, [])


def counts(meter):
    """The counters that are not 0."""
    samples = [one for family in WithoutCreated(meter.registry).collect() for one in family.samples]
    counted = [one for one in samples if one.value and one.name.endswith("_total")]
    return sorted((one.name.removeprefix("rollforward_worker_"), *one.labels.values(), one.value) for one in counted)


async def test_a_report_that_is_not_taken_is_counted_as_stale(ledger, process, meter):
    worker, loop = process.ledger, asyncio.get_running_loop()

    def given_to_another():
        worker.release(process.owner, has_died=True)
        item = QueuedItem(SLOT, tiny.piece.codec.dump_fields({"number": 4}).encode())
        queueing = ledger.queue(RUN, 1, [item], claim_deadline_seconds=30)
        asyncio.run_coroutine_threadsafe(queueing, loop).result(timeout=10)
        worker.claim(RUN, [SLOT], owner="another", token="another", ttl_seconds=30)

    assert await delivered(process, given_to_another) == []
    assert counts(meter) == [("deliveries_total", "tiny", 1), ("reports_total", "stale", 1)]


async def test_a_report_of_a_run_that_was_cancelled_is_not_counted_as_stale(ledger, process, meter):
    loop = asyncio.get_running_loop()

    def cancelled():
        for verb in (ledger.cancel, ledger.forget):
            asyncio.run_coroutine_threadsafe(verb(RUN, 1), loop).result(timeout=10)
        process._heartbeat.beat()

    assert await delivered(process, cancelled, after="briefing") == []
    assert counts(meter) == [("deliveries_total", "tiny", 1), ("reports_total", "over", 1)]


async def test_an_instance_of_another_version_is_counted_as_declined(ledger, process, meter):
    assert await delivered(process, lambda: None, fingerprint="0" * 16) == []
    assert counts(meter) == [("declined_total", 1)]


async def test_what_is_run_is_counted_as_claimed_and_reported(ledger, process, meter):
    await delivered(process, lambda: None)
    assert counts(meter) == [("deliveries_total", "tiny", 1), ("reports_total", "ok", 1)]
