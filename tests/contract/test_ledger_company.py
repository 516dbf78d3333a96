"""What a ledger promises of instances that are lost beside those of other runs, which it cannot see by itself."""

import pytest

from orchestrator.ledger.claim import Beat, Held, Reported
from tests.contract.ledger_case import RUN, owner, slot


def ask(case, *slots, token="t1", by=None, in_company=True):
    return case.worker.claim(RUN, slots, owner=by or owner(), token=token, ttl_seconds=15, in_company=in_company)


def beat(case, where, *, in_company, token="t1"):
    (answer,) = case.worker.beat(RUN, [Held(where, token)], ttl_seconds=15, in_company=in_company)
    return answer


async def alone(case, *slots):
    return [lapse.alone for lapse in (await case.sweep(*slots)).lapsed]


@pytest.fixture(params=["released", "ended"])
def lose(request, case):
    """Two ways in which a lease is lost."""

    def release(by=None):
        case.worker.release(by or owner(), has_died=True)

    return release if request.param == "released" else lambda by=None: case.clock.advance(20)


class TestCompany:
    async def test_what_is_claimed_in_company_is_not_lost_alone(self, case, lose):
        await case.opened(slot(0))
        ask(case, slot(0))
        lose()
        assert await alone(case, slot(0)) == await alone(case, slot(0)) == [False]

    async def test_what_gets_company_later_is_not_lost_alone(self, case, lose):
        await case.opened(slot(0))
        ask(case, slot(0), in_company=False)
        assert beat(case, slot(0), in_company=True) is Beat.OK
        lose()
        assert await alone(case, slot(0)) == [False]

    async def test_what_is_left_by_its_company_is_lost_alone(self, case, lose):
        await case.opened(slot(0))
        ask(case, slot(0))
        assert beat(case, slot(0), in_company=False) is Beat.OK
        lose()
        assert await alone(case, slot(0)) == [True]

    async def test_a_batch_is_in_company_as_a_whole_and_those_claimed_before_are_not(self, case, lose):
        await case.opened(slot(0), slot(1), slot(2))
        case.claim(slot(0), by=owner("w2"))
        ask(case, slot(1), slot(2))
        lose()
        lose(owner("w2"))
        assert sorted(await alone(case, slot(0), slot(1), slot(2))) == [False, False, True]

    async def test_a_beat_of_another_token_says_nothing_of_this_one(self, case, lose):
        await case.opened(slot(0))
        ask(case, slot(0), in_company=False)
        assert beat(case, slot(0), in_company=True, token="t2") is Beat.LOST
        lose()
        assert await alone(case, slot(0)) == [True]

    async def test_what_a_released_lease_was_lost_in_stays(self, case):
        await case.opened(slot(0))
        ask(case, slot(0))
        case.worker.release(owner(), has_died=True)
        assert beat(case, slot(0), in_company=False) is Beat.OK
        assert await alone(case, slot(0)) == [False]

    async def test_a_claim_begins_anew_and_the_same_one_again_changes_nothing(self, case, lose):
        await case.opened(slot(0))
        ask(case, slot(0))
        lose()
        await case.queue(slot(0))
        first = ask(case, slot(0), token="t2", in_company=False)
        assert ask(case, slot(0), token="t2", in_company=True) == first
        lose()
        assert await alone(case, slot(0)) == [True]

    async def test_a_lease_taken_back_by_a_beat_is_in_the_company_that_it_names(self, case):
        await case.opened(slot(0))
        ask(case, slot(0), in_company=False)
        case.clock.advance(20)
        await case.queue(slot(0))
        assert beat(case, slot(0), in_company=True) is Beat.OK
        case.clock.advance(20)
        assert await alone(case, slot(0)) == [False]

    async def test_a_report_in_company_is_a_report(self, case):
        await case.opened(slot(0))
        ask(case, slot(0))
        assert case.report(slot(0)) is Reported.OK
        assert (await case.sweep(slot(0))).lapsed == ()
