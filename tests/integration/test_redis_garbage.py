"""Whatever others put into the ledger's keys is refused; it stops no script, no worker and no run."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from backends.ledgers.redis.worker import RedisWorkerLedger
from orchestrator.ledger.claim import Beat, Held, Reported, Verdict
from orchestrator.ledger.view import QueueAnswer, QueuedItem
from tests.contract.ledger_case import EPOCH, FAN_OUT, RUN, LedgerCase, owner, redis_case, report_of, slot
from workers.children import Children
from workers.process import this_owner

SLOTS = f"rollforward:run:{{run-1}}:{FAN_OUT}:slots"


def packed(**changes: bytes) -> bytes:
    """A queued entry, where some fields hold other bytes of MessagePack; an empty one is left out."""
    fields = {
        "generation": b"\x00",
        "stage": text("queued"),
        "delivery": b"\x00",
        "token": text(""),
        "owner": text(""),
        "ends": b"\x00",
        "lasts": b"\x01",
        "order": b"\x01",
        "key": text("key"),
        **changes,
    }
    kept = {name: value for name, value in fields.items() if value}
    return bytes([0x80 + len(kept)]) + b"".join(text(name) + value for name, value in kept.items())


def text(value: str) -> bytes:
    return bytes([0xA0 + len(value)]) + value.encode()


NAN, INFINITE = b"\xcb\x7f\xf8" + b"\0" * 6, b"\xcb\x7f\xf0" + b"\0" * 6
HALF, HUGE = b"\xcb\x3f\xe0" + b"\0" * 6, b"\xcf" + b"\xff" * 8
NO_ENTRY = [
    b"",
    b"\xc1",
    b"\x93",
    b"{}",
    b"\x01",
    b"\xc0",
    b"\x90",
    b"\x80",
    b"\xdf\xff\xff\xff\xff",
    packed() + b"\x01",
    *(packed(**{name: b""}) for name in ("generation", "stage", "delivery", "token", "owner", "ends", "order")),
    *(packed(generation=value) for value in (text("0"), NAN, HALF, b"\xff", b"\x81\x01\x01")),
    *(packed(stage=value) for value in (b"\x01", text("asleep"), b"\xc3")),
    *(packed(delivery=value) for value in (text("1"), HUGE, INFINITE, HALF, b"\xff")),
    *(packed(ends=value) for value in (text("x"), NAN, INFINITE, b"\x90")),
    *(packed(lasts=value) for value in (text("x"), NAN, INFINITE, b"\x90")),
    *(packed(order=value) for value in (text("x"), NAN, b"\x90")),
    *(packed(**{name: value}) for name in ("token", "owner") for value in (b"\x01", b"\x90", b"\xa2x\0")),
    *(packed(**{name: value}) for name in ("given", "given_before", "given_to") for value in (text("1"), NAN, b"\x90")),
    *(packed(key=value) for value in (b"", b"\x01", b"\x90", b"\xc2")),
    *(packed(**{name: value}) for name in ("declined_by", "reason", "last_call") for value in (b"\x01", b"\x90")),
]


@pytest.fixture
async def case(redis_url) -> AsyncIterator[LedgerCase]:
    async for made in redis_case(redis_url):
        yield made


def put(redis_server, forged: bytes, field: str = "0") -> None:
    with redis_server.client() as client:
        client.hset(SLOTS, field, forged)


async def test_a_key_may_be_any_text(case):
    await case.open()
    item = QueuedItem(slot(0), b"item 0", key="a\0b")
    assert await case.orchestrator.queue(RUN, EPOCH, [item], claim_deadline_seconds=30) == [QueueAnswer.OK]
    assert case.claim(slot(0)).key == "a\0b"


async def test_what_these_tests_build_is_an_entry_where_nothing_is_wrong_with_it(case, redis_server):
    await case.opened(slot(0))
    put(redis_server, packed())
    assert case.verdict(slot(0)) is Verdict.OK


@pytest.mark.parametrize("forged", NO_ENTRY)
async def test_what_is_no_entry_is_a_slot_that_the_ledger_does_not_know(case, redis_server, caplog, forged):
    await case.opened(slot(0), slot(1))
    case.claim(slot(1))
    put(redis_server, forged)
    assert case.verdict(slot(0)) is Verdict.UNKNOWN
    assert case.beat(slot(0)) is Beat.LOST
    assert case.report(slot(0)) is Reported.STALE
    assert not case.worker.progress(RUN, Held(slot(0), "t1"), [b"told"])
    case.worker.decline(RUN, [slot(0)], worker="w1", reason="r")
    assert [one.slot for one in await case.orchestrator.live(RUN, FAN_OUT)] == [slot(1)]
    assert len(await case.orchestrator.told(RUN, EPOCH, {slot(0): 0})) == 1
    assert case.worker.release(owner(), has_died=True) == 1
    with caplog.at_level(logging.ERROR):
        first, second = await case.sweep(slot(0), slot(1)), await case.sweep(slot(0), slot(1))
    assert first == second
    assert ([one.slot for one in first.lapsed], first.unknown) == ([slot(1)], (slot(0),))
    assert [(record.message, record.index) for record in caplog.records] == [("entry refused", 0)]
    assert await case.queue(slot(0)) == [QueueAnswer.OK]
    assert case.claim(slot(0), "t2").item == b"item 0"


@pytest.mark.parametrize("forged", [b"\xc1", packed(stage=b"\x01")])
async def test_what_is_no_entry_can_be_opened_reset_closed_and_forgotten(case, redis_server, forged):
    await case.opened(slot(0))
    put(redis_server, forged)
    await case.open()
    await case.orchestrator.reset(RUN, EPOCH, [slot(0)])
    put(redis_server, forged)
    await case.close(slot(0))
    assert case.verdict(slot(0)) is Verdict.DONE
    put(redis_server, forged)
    await case.orchestrator.forget(RUN, EPOCH)
    assert case.verdict(slot(0)) is Verdict.DONE


@pytest.mark.parametrize(
    "field", ["", "x", "-1", "1.5", "1e9", "99999999999", "\ud800".encode("utf-8", "surrogatepass")]
)
async def test_what_stands_where_no_slot_has_its_place_is_passed_over(case, redis_server, field):
    await case.opened(slot(0))
    case.claim(slot(0))
    put(redis_server, packed(stage=text("running"), owner=bytes([0xD9, len(owner())]) + owner().encode()), field)
    assert [one.slot for one in await case.orchestrator.live(RUN, FAN_OUT)] == [slot(0)]
    case.clock.advance(20)
    assert [one.alone for one in (await case.sweep(slot(0))).lapsed] == [True]
    assert case.worker.release(owner(), has_died=True) == 1
    await case.open(0)
    await case.orchestrator.forget(RUN, EPOCH)


@pytest.mark.parametrize("name", ["owner", "declined_by", "reason"])
async def test_a_name_that_is_no_text_stops_no_sweep(case, redis_server, name):
    await case.opened(slot(0))
    stage = text("running" if name == "owner" else "queued")
    put(redis_server, packed(**{"stage": stage, "declined_by": text("w"), "reason": text("r"), name: b"\xa2\xff\xfe"}))
    found = await case.sweep(slot(0))
    assert [one.slot for one in (*found.lapsed, *found.declined)] == [slot(0)]
    assert len(await case.orchestrator.live(RUN, FAN_OUT)) == 1


BROKEN_OWNERS = [
    b"",
    b"\xff\xfe",
    b"garbage",
    b":::::",
    b"{place}:w:x:1",
    b"{place}:w:1:x",
    b"{place}:w:-1:1",
    b"{place}:w:0:1",
    b"{place}:w: 7 :1",
    b"{place}:w:1_0:1",
    "{place}:w:\u0667:1".encode(),
    b"{place}:w:" + b"9" * 30 + b":1",
    b"{place}:w:" + b"9" * 5_000 + b":1",
    b"{place}:w:v:1:1",
    b"other:boot:1:w:1:1",
]


@pytest.fixture
def registry(redis_url):
    made = RedisWorkerLedger(redis_url)
    yield made
    made.close()


@pytest.mark.parametrize("last", ["look", "finish"])
@pytest.mark.parametrize("forged", BROKEN_OWNERS)
async def test_a_broken_owner_keeps_nobody_from_being_released(case, registry, redis_server, caplog, forged, last):
    place = this_owner("w@h").place
    dead = str(replace(this_owner("w@h"), started_ms=1))
    await case.opened(slot(0))
    case.claim(slot(0), by=dead)
    with redis_server.client() as client:
        client.sadd(f"rollforward:run:place:{place}", forged.replace(b"{place}", place.encode()))
    children = Children("w@h", registry, registry)
    with caplog.at_level(logging.ERROR):
        getattr(children, last)()
        children.look()
    assert [one.slot for one in (await case.sweep(slot(0))).lapsed] == [slot(0)]
    assert [record.message for record in caplog.records] == ["owner refused"]


async def test_a_living_owner_of_another_place_is_not_released_for_being_listed_here(case, registry, redis_server):
    elsewhere = str(replace(this_owner("w@h"), host="elsewhere", started_ms=1))
    await case.opened(slot(0))
    case.claim(slot(0), by=elsewhere)
    with redis_server.client() as client:
        client.sadd(f"rollforward:run:place:{this_owner('w@h').place}", elsewhere)
    Children("w@h", registry, registry).look()
    assert (await case.sweep(slot(0))).lapsed == ()


@pytest.mark.parametrize("forged", [b"\xff\xfe", b"", b"nowhere", b"{run-1}:"])
async def test_a_run_that_is_none_keeps_nobody_from_being_released(case, registry, redis_server, forged):
    await case.opened(slot(0))
    case.claim(slot(0))
    with redis_server.client() as client:
        client.sadd(f"rollforward:run:owner:{owner()}", forged)
    assert registry.release(owner(), has_died=True) == 1
    assert registry.owners("host:boot:ns") == []


async def test_what_stops_one_release_keeps_no_other_from_being_made(case, registry, redis_server, caplog):
    first, second = (str(replace(this_owner(name), started_ms=1)) for name in ("a@h", "b@h"))
    await case.opened(slot(0))
    case.claim(slot(0), by=second)
    with redis_server.client() as client:
        client.sadd(f"rollforward:run:place:{this_owner('a@h').place}", first)
        client.set(f"rollforward:run:owner:{first}", "no set")
    with caplog.at_level(logging.ERROR):
        Children("w@h", registry, registry).look()
    assert [one.slot for one in (await case.sweep(slot(0))).lapsed] == [slot(0)]
    assert "leases not released" in caplog.text


async def test_a_report_that_is_said_to_be_there_and_is_not_is_no_report(case, redis_server):
    await case.opened(slot(0))
    case.claim(slot(0))
    case.report(slot(0))
    with redis_server.client() as client:
        client.hdel(f"rollforward:run:{{run-1}}:{FAN_OUT}:reports", "0")
    assert (await case.sweep(slot(0))).unknown == (slot(0),)
    await case.queue(slot(0))
    case.claim(slot(0), "t2")
    assert case.report(slot(0), "t2") is Reported.OK
    assert await case.reports() == [report_of(slot(0), "t2")]
