"""What travels through the broker."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import PayloadTooLarge
from orchestrator.identity import Slot
from orchestrator.seal import Seal
from workers.message import MAX_BYTES, Message, MessageRefused, decode, encode

SEALED = Seal(["a-secret"])
OPEN = Seal()
names = st.text(min_size=1, max_size=60)


def a_message(**changes):
    facts = {"run_id": "r1", "fan_out": "f1", "places": ((17, 0),), "graph": "shop:flow", "fingerprint": "abc"}
    return Message(**{**facts, **changes})


def body_of(message):
    return json.loads(encode(message, OPEN).partition(" ")[2])


@given(run_id=names, graph=names, index=st.integers(0, 2**31 - 1), generation=st.integers(0, 9))
def test_a_message_comes_back_as_it_was_sent(run_id, graph, index, generation):
    message = a_message(run_id=run_id, graph=graph, places=((index, generation),))
    assert decode(encode(message, SEALED), SEALED) == message


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none(), st.lists(st.text())))
def test_anything_else_is_refused(anything):
    for seal in (SEALED, OPEN):
        with pytest.raises(MessageRefused):
            decode(anything, seal)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_in_place_of_the_body_is_refused(body):
    with pytest.raises(MessageRefused):
        decode(f"{SEALED.sign(body.encode('utf-8', 'surrogatepass'))} {body}", SEALED)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_other_json_is_refused(value):
    with pytest.raises(MessageRefused):
        decode(f" {json.dumps(value)}", OPEN)


@given(st.sampled_from(["run_id", "fan_out", "places", "graph", "fingerprint", "v"]), st.integers() | st.none())
def test_a_message_with_a_wrong_field_is_refused(name, value):
    text = json.dumps({**body_of(a_message()), name: value})
    if name == "v" and value == 1:
        return
    with pytest.raises(MessageRefused, match="version 1"):
        decode(f" {text}", OPEN)


@pytest.mark.parametrize(
    "places", [[], [[-1, 0]], [[1, -1]], [[1]], [[1, 0, 0]], [[2**31, 0]], [["1", 0]], [[True, 0]]]
)
def test_places_that_are_none_are_refused(places):
    with pytest.raises(MessageRefused):
        decode(f" {json.dumps({**body_of(a_message()), 'places': places})}", OPEN)


def test_a_place_is_named_once():
    with pytest.raises(MessageRefused):
        decode(f" {json.dumps({**body_of(a_message()), 'places': [[1, 0], [1, 0]]})}", OPEN)


def test_a_refusal_repeats_no_name_that_the_sender_has_thought_of():
    text = json.dumps({**body_of(a_message()), "\x1b[2J\nforged": 1, "run_id": 7})
    with pytest.raises(MessageRefused) as refusal:
        decode(f" {text}", OPEN)
    assert str(refusal.value) == "it is no message of version 1: see a field that it does not have, run_id"


def test_a_field_that_we_do_not_know_is_refused():
    with pytest.raises(MessageRefused, match="does not have"):
        decode(f" {json.dumps({**body_of(a_message()), 'import_this': 'os'})}", OPEN)


def test_deep_json_is_refused():
    with pytest.raises(MessageRefused):
        decode(" " + "[" * 1000, OPEN)


def test_a_changed_message_is_refused():
    text = encode(a_message(), SEALED)
    with pytest.raises(MessageRefused, match="ROLLFORWARD_SECRET"):
        decode(text.replace("[17,0]", "[18,0]"), SEALED)


def test_a_message_without_a_seal_is_refused_where_there_is_a_secret():
    with pytest.raises(MessageRefused, match="ROLLFORWARD_SECRET"):
        decode(encode(a_message(), OPEN), SEALED)


def test_a_message_of_the_former_secret_is_believed_while_it_is_listed():
    assert decode(encode(a_message(), SEALED), Seal(["new", "a-secret"])) == a_message()


def test_a_message_of_more_than_one_kib_is_not_written():
    places = tuple((index, 0) for index in range(200))
    with pytest.raises(PayloadTooLarge, match="message"):
        encode(a_message(places=places), SEALED)


def test_a_message_of_more_than_one_kib_is_refused():
    text = encode(a_message(), OPEN)
    with pytest.raises(MessageRefused, match="1024"):
        decode(text.replace("}", " " * MAX_BYTES + "}"), OPEN)


def test_a_message_names_its_slots():
    assert a_message(places=((3, 0), (4, 2))).slots == (Slot("f1", 3, 0), Slot("f1", 4, 2))


def test_a_message_holds_ids_only():
    assert body_of(a_message()) == {
        "v": 1,
        "run_id": "r1",
        "fan_out": "f1",
        "places": [[17, 0]],
        "graph": "shop:flow",
        "fingerprint": "abc",
    }
