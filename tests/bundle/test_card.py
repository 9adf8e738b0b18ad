"""The card reads back to the same bits, and refuses everything that is not exactly a card."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.bundle.card import Card
from dsac_robot.bundle.errors import BundleError

finite = st.floats(allow_nan=False, allow_infinity=False)


def test_a_card_reads_back_equal(card: Card) -> None:
    assert Card.from_json(card.to_json()) == card


@settings(max_examples=200)
@given(x_m=finite, threshold=finite, score=finite)
def test_every_float_keeps_its_bits(card: Card, x_m: float, threshold: float, score: float) -> None:
    assert card.monitor is not None
    changed = replace(
        card,
        lidar=replace(card.lidar, x_m=x_m),
        monitor=replace(
            card.monitor,
            scores=(replace(card.monitor.scores[0], caution_threshold=threshold, alarm_threshold=threshold),),
        ),
        recorded=replace(card.recorded, scores={"score": score}),
    )
    again = Card.from_json(changed.to_json())
    assert again == changed
    assert again.to_json() == changed.to_json()  # tells -0.0 from 0.0, which == does not


def edited(card: Card, edit: Callable[[Any], None]) -> bytes:
    value = json.loads(card.to_json())
    edit(value)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(extra=1), "unknown key 'extra'; known: .*; if another version of dsac_robot wrote it"),
        (lambda c: c["lidar"].update(colour="red"), r"card\.json\.lidar: unknown key 'colour'"),
        (lambda c: c.pop("task"), "key 'task' is missing"),
        (lambda c: c["geometry"].pop("track_m"), r"card\.json\.geometry: key 'track_m' is missing"),
        (lambda c: c["lidar"].update(beams="720"), r"card\.json\.lidar\.beams = '720' must be of type int"),
        (lambda c: c["lidar"].update(beams=720.0), r"lidar\.beams = 720\.0 must be of type int"),
        (lambda c: c["lidar"].update(beams=True), r"lidar\.beams = True must be of type int"),
        (lambda c: c["lidar"].update(x_m="0"), r"lidar\.x_m = '0' must be of type float"),
        (lambda c: c["lidar"].update(x_m=False), r"lidar\.x_m = False must be of type float"),
        (lambda c: c["lidar"].update(x_m=10**400), r"lidar\.x_m: number is too large"),
        (lambda c: c["action"].update(low=[0.0]), r"action\.low = \[0\.0\] must be a list of 2"),
        (lambda c: c["action"].update(low=[9.0, 0.0]), "must be below"),
        (lambda c: c["action"].update(meaning="wheels"), "action.meaning = 'wheels' is not known"),
        (lambda c: c.update(terms={}), r"card\.json\.terms = \{\} must be a list"),
        (lambda c: c["terms"].pop(), "differs from the names in terms"),
        (lambda c: c["terms"].reverse(), "differs from the names in terms"),
        (lambda c: c["terms"][0].update(shape=[0, 3]), "at least 1"),
        (lambda c: c["terms"][0].update(shape=[10**6, 2]), "at most 1000000"),
        (lambda c: c.update(card_version=2), "card_version = 2 is not supported"),
        (lambda c: c.pop("card_version"), "card_version = None is not supported"),
        (lambda c: c.update(lidar=None), r"card\.json\.lidar = None must be an object"),
        (lambda c: c.update(recorded=[]), r"card\.json\.recorded = \[\] must be an object"),
        (lambda c: c["monitor"]["scores"].clear(), r"card\.json\.monitor: scores must be at least one"),
        (lambda c: c["monitor"].update(raise_after=0), r"card\.json\.monitor: raise_after = 0"),
        (lambda c: c["layout"].update(control_period_s=0), "control_period_s must be above 0"),
        (lambda c: c["recorded"]["data"].update(x=1), r"recorded\.data\.x = 1 must be of type str"),
    ],
)
def test_a_wrong_card_is_refused_by_the_name_of_the_key(card: Card, edit: Callable[[Any], None], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Card.from_json(edited(card, edit))


def test_a_key_given_twice_is_refused(card: Card) -> None:
    text = card.to_json().decode()
    twice = text.replace('"beams": 720', '"beams": 360,\n    "beams": 720')
    assert twice != text
    with pytest.raises(BundleError, match="key 'beams' is given twice"):
        Card.from_json(twice.encode())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(card: Card, number: str) -> None:
    text = card.to_json().decode().replace('"wheel_radius_m": 0.098', f'"wheel_radius_m": {number}')
    with pytest.raises(BundleError, match=r"no JSON number|wheel_radius_m: number must be finite"):
        Card.from_json(text.encode())


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{} {}", b"9" * 5000, b'"card"']
)
def test_what_is_no_card_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"card\.json"):
        Card.from_json(content)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mutated_card_is_refused_by_bundle_error_or_is_another_valid_card(card: Card, data: st.DataObject) -> None:
    content = bytearray(card.to_json())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = Card.from_json(bytes(content))
    except BundleError:
        return
    assert Card.from_json(read.to_json()) == read
