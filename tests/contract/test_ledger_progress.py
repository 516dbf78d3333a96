"""What every ledger promises about what instances tell while they run."""

import pytest

from orchestrator.errors import Fenced
from orchestrator.identity import Slot
from orchestrator.ledger.claim import Held
from orchestrator.ledger.view import Progress, QueuedItem
from tests.contract.ledger_case import EPOCH, RUN, owner, slot


class TestProgress:
    async def test_the_next_claim_is_given_what_was_kept_in_order(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        assert case.worker.progress(RUN, Held(slot(0), "t1"), [b"a", b"b"])
        assert case.worker.progress(RUN, Held(slot(0), "t1"), [b"c"])
        case.clock.advance(20)
        await case.queue(slot(0))
        assert case.claim(slot(0), "t2").progress == (b"a", b"b", b"c")

    async def test_a_stale_token_keeps_nothing(self, case):
        await case.opened(slot(0))
        assert not case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
        case.claim(slot(0), "t1")
        assert not case.worker.progress(RUN, Held(slot(0), "t2"), [b"a"])
        case.clock.advance(20)
        await case.queue(slot(0))
        assert case.claim(slot(0), "t2").progress == ()

    async def test_a_claim_is_given_what_was_queued_with_it_and_what_was_kept_since(self, case):
        await case.open()
        item = QueuedItem(slot(0), b"item", progress=(b'{"recorded": 1}',))
        await case.orchestrator.queue(RUN, EPOCH, [item], claim_deadline_seconds=30)
        assert case.claim(slot(0), "t1").progress == (b'{"recorded": 1}',)
        assert case.worker.progress(RUN, Held(slot(0), "t1"), [b"kept"])
        case.worker.release(owner(), has_died=False)
        await case.orchestrator.queue(RUN, EPOCH, [item], claim_deadline_seconds=30)
        assert case.claim(slot(0), "t2").progress == (b'{"recorded": 1}', b"kept")

    async def test_a_reset_slot_begins_without_progress(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
        await case.orchestrator.reset(RUN, EPOCH, [slot(0)])
        await case.queue(slot(0))
        assert case.claim(slot(0), "t2").progress == ()


class TestTold:
    async def test_whoever_looks_is_told_what_is_new_to_them(self, case):
        await case.opened(slot(0), slot(1), slot(2))
        case.ask(slot(0), slot(1), slot(2))
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a", "é".encode(), b"c"])
        case.worker.progress(RUN, Held(slot(1), "t1"), [b"one"])
        assert await case.orchestrator.told(RUN, EPOCH, {slot(1): 0, slot(0): 1, slot(2): 0}) == [
            Progress(1, (b"one",)),
            Progress(3, ("é".encode(), b"c")),
            Progress(0, ()),
        ]
        assert await case.orchestrator.told(RUN, EPOCH, {slot(0): 3}) == [Progress(3, ())]

    async def test_what_was_told_stays_through_the_deliveries_until_the_slot_is_closed(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
        case.worker.release(owner(), has_died=True)
        await case.queue(slot(0))
        case.claim(slot(0), "t2")
        case.worker.progress(RUN, Held(slot(0), "t2"), [b"b"])
        case.report(slot(0), "t2")
        assert await case.orchestrator.told(RUN, EPOCH, {slot(0): 1}) == [Progress(2, (b"b",))]
        await case.close(slot(0))
        assert await case.orchestrator.told(RUN, EPOCH, {slot(0): 0}) == [Progress(0, ())]

    async def test_where_less_is_there_than_was_known_all_of_it_is_told(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a", b"b"])
        assert await case.orchestrator.told(RUN, EPOCH, {slot(0): 7}) == [Progress(2, (b"a", b"b"))]

    async def test_what_is_not_there_has_told_nothing(self, case):
        nowhere = Slot("nowhere", 0)
        assert await case.orchestrator.told(RUN, EPOCH, {slot(0): 4, nowhere: 0}) == [Progress(0, ()), Progress(0, ())]
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
        assert await case.orchestrator.told(RUN, EPOCH, {slot(0, 1): 0, slot(10**6): 0}) == [
            Progress(0, ()),
            Progress(0, ()),
        ]

    async def test_of_nothing_nothing_is_told(self, case):
        assert await case.orchestrator.told(RUN, EPOCH, {}) == []

    async def test_the_next_owner_learns_what_the_one_before_was_given(self, case):
        await case.opened(slot(0), slot(1))
        case.ask(slot(0), slot(1))
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a", b"b"])
        for _ in range(2):
            assert await case.orchestrator.told(RUN, EPOCH, {slot(0): 0}) == [Progress(2, (b"a", b"b"))]
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"c"])
        case.worker.progress(RUN, Held(slot(1), "t1"), [b"one"])
        await case.open(epoch=EPOCH + 1)
        for _ in range(2):
            assert await case.orchestrator.told(RUN, EPOCH + 1, {slot(0): 0, slot(1): 0}) == [
                Progress(3, (b"a", b"b", b"c"), repeated=2),
                Progress(1, (b"one",)),
            ]
        assert await case.orchestrator.told(RUN, EPOCH + 1, {slot(0): 1}) == [Progress(3, (b"b", b"c"), repeated=1)]
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"d"])
        assert await case.orchestrator.told(RUN, EPOCH + 1, {slot(0): 3}) == [Progress(4, (b"d",))]
        await case.open(epoch=EPOCH + 2)
        assert await case.orchestrator.told(RUN, EPOCH + 2, {slot(0): 2}) == [Progress(4, (b"c", b"d"), repeated=2)]

    async def test_what_was_given_counts_through_the_deliveries_and_not_beyond_a_reset(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
        await case.orchestrator.told(RUN, EPOCH, {slot(0): 0})
        case.worker.release(owner(), has_died=True)
        await case.queue(slot(0))
        case.claim(slot(0), "t2")
        case.worker.progress(RUN, Held(slot(0), "t2"), [b"b"])
        await case.open(epoch=EPOCH + 1)
        given = await case.orchestrator.told(RUN, EPOCH + 1, {slot(0): 0})
        assert given == [Progress(2, (b"a", b"b"), repeated=1)]
        await case.orchestrator.reset(RUN, EPOCH + 1, [slot(0)])
        await case.orchestrator.queue(RUN, EPOCH + 1, [QueuedItem(slot(0), b"item")], claim_deadline_seconds=30)
        case.claim(slot(0), "t3")
        case.worker.progress(RUN, Held(slot(0), "t3"), [b"c"])
        assert await case.orchestrator.told(RUN, EPOCH + 1, {slot(0): 0}) == [Progress(1, (b"c",))]

    async def test_one_who_was_replaced_is_told_nothing(self, case):
        await case.opened(slot(0))
        case.claim(slot(0), "t1")
        case.worker.progress(RUN, Held(slot(0), "t1"), [b"a"])
        await case.open(epoch=EPOCH + 1)
        with pytest.raises(Fenced):
            await case.orchestrator.told(RUN, EPOCH, {slot(0): 0})
        assert await case.orchestrator.told(RUN, EPOCH + 1, {slot(0): 0}) == [Progress(1, (b"a",))]
