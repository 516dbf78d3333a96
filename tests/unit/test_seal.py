import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.seal import Seal


def test_a_seal_names_its_key_without_giving_it_away():
    signature = Seal(["secret"]).sign(b"payload")
    key_id, _, code = signature.partition(".")
    assert key_id == "2bb80d53"
    assert len(code) == 64
    assert "secret" not in signature


@given(st.binary(), st.lists(st.text(), min_size=1, max_size=3, unique=True))
def test_the_first_key_signs_and_every_key_is_believed(payload, keys):
    signature = Seal(keys).sign(payload)
    assert Seal(keys[:1]).verify(payload, signature)
    assert Seal([*reversed(keys), "another"]).verify(payload, signature)


@pytest.mark.parametrize("signature", ["", ".", "2bb80d53.", "2bb80d53", "2bb80d53.é\ud800", "another.00"])
def test_what_is_no_seal_of_ours_is_refused(signature):
    assert not Seal(["secret"]).verify(b"payload", signature)


def test_a_changed_payload_or_code_is_refused():
    seal = Seal(["secret"])
    signature = seal.sign(b"payload")
    assert not seal.verify(b"payloae", signature)
    assert not seal.verify(b"payload", signature[:-1] + ("0" if signature[-1] != "0" else "1"))


def test_another_key_under_the_id_of_ours_is_refused():
    _, _, code = Seal(["other"]).sign(b"payload").partition(".")
    assert not Seal(["secret"]).verify(b"payload", f"2bb80d53.{code}")


def test_without_keys_nothing_is_signed_and_everything_is_believed():
    assert Seal().sign(b"payload") == ""
    assert Seal().verify(b"payload", "")
    assert Seal().verify(b"payload", Seal(["secret"]).sign(b"other"))
