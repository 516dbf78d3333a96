from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bitmap import Bitmap

members = st.sets(st.integers(0, 199))


def test_a_member_is_added_once():
    bitmap = Bitmap(10)
    assert bitmap.add(9)
    assert not bitmap.add(9)
    assert len(bitmap) == 1


def test_taking_out_is_harmless_where_nothing_is():
    bitmap = Bitmap(10, [3, 4])
    bitmap.discard(3)
    bitmap.discard(3)
    assert list(bitmap) == [4]
    assert len(bitmap) == 1


@given(members, members)
def test_it_is_the_set_of_its_members(added, discarded):
    bitmap = Bitmap(200, added)
    for index in discarded:
        bitmap.discard(index)
    expected = added - discarded
    assert list(bitmap) == sorted(expected)
    assert len(bitmap) == len(expected)
    assert list(bitmap.missing()) == sorted(set(range(200)) - expected)
    assert all((index in bitmap) == (index in expected) for index in range(200))


def test_the_first_index_is_the_highest_bit_of_the_first_byte():
    assert Bitmap(12, [0, 7, 8]).to_bytes() == b"\x81\x80"


def test_an_empty_one_has_no_bytes():
    assert Bitmap(0).to_bytes() == b""
    assert list(Bitmap(0).missing()) == []
