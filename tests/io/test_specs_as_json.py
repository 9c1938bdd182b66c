"""JSON of specs: what is written, and what may be left out. (Round trips of all: tests/core/test_specs.py.)"""

import json

import pytest

import funcnet as fn


@fn.spec
class Named:
    """A user's spec with a field that has a default, one that is empty, and one that has none."""

    size: int
    slope: float = 0.5
    title: str = ""


def test_an_empty_name_is_not_written_and_any_other_is():
    assert json.loads(fn.to_json(Named(3))) == {"Named": {"size": 3, "slope": 0.5}}
    assert json.loads(fn.to_json(Named(3, title="a"))) == {"Named": {"size": 3, "slope": 0.5, "title": "a"}}
    for value in (Named(3), Named(3, 0.1, "a"), fn.Chain(fn.Tanh()), fn.Chain(fn.Tanh(), name="attention")):
        assert fn.from_json(fn.to_json(value), [Named]) == value


def test_a_field_that_is_not_named_takes_its_default():
    assert fn.from_json('{"Named": {"size": 3}}', [Named]) == Named(3)
    assert fn.from_json('{"LeakyReLU": {}}') == fn.LeakyReLU()
    with pytest.raises(ValueError, match=r"Named has the fields \['size', 'slope', 'title'\], got \['slope'\]"):
        fn.from_json('{"Named": {"slope": 1.0}}', [Named])
    with pytest.raises(ValueError, match=r"got \['other', 'size'\]"):
        fn.from_json('{"Named": {"size": 3, "other": 1}}', [Named])
