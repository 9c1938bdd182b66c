"""JSON of specs: what is written, and what may be left out. (Round trips of all: tests/core/test_specs.py.)"""

import dataclasses
import json

import pytest

import funcnet as fn


@fn.spec
class Named:
    """A user's spec with a field that has a default, one that is empty, and one that has none."""

    size: int
    slope: float = 0.5
    title: str = ""


@fn.spec
class Made:
    """A spec with a default that is made anew."""

    sizes: tuple[int, ...] = dataclasses.field(default_factory=tuple)


def test_an_empty_name_is_not_written_and_any_other_is():
    assert json.loads(fn.to_json(Named(3))) == {"Named": {"size": 3, "slope": 0.5}}
    assert json.loads(fn.to_json(Named(3, title="a"))) == {"Named": {"size": 3, "slope": 0.5, "title": "a"}}
    for value in (Named(3), Named(3, 0.1, "a"), fn.Chain(fn.Tanh()), fn.Chain(fn.Tanh(), name="attention")):
        assert fn.from_json(fn.to_json(value), [Named]) == value


def test_a_field_that_is_not_named_takes_its_default():
    assert fn.from_json('{"Named": {"size": 3}}', [Named]) == Named(3)
    assert fn.from_json('{"LeakyReLU": {}}') == fn.LeakyReLU()
    assert fn.from_json('{"Made": {}}', [Made]) == Made()
    with pytest.raises(ValueError, match=r"Named has the fields \['size', 'slope', 'title'\], got \['slope'\]"):
        fn.from_json('{"Named": {"slope": 1.0}}', [Named])
    with pytest.raises(ValueError, match=r"got \['other', 'size'\]"):
        fn.from_json('{"Named": {"size": 3, "other": 1}}', [Named])


def test_what_would_be_read_as_something_else_is_not_written():
    other = fn.spec(type("Tanh", (), {"__annotations__": {"n": int}, "__module__": __name__}))
    with pytest.raises(ValueError, match="a class of yours has the name of funcnet's, Tanh. Rename it"):
        fn.to_json(other(3))
    one, two = (fn.spec(type("Own", (fn.Tanh,), {"__annotations__": {"n": int}, "__module__": "x"})) for _ in "ab")
    assert fn.to_json(fn.Chain(one(1), one(2)))
    with pytest.raises(ValueError, match="another of yours, Own"):
        fn.to_json(fn.Chain(one(1), two(2)))


@pytest.mark.parametrize("text", ['{"Dropout": {"rate": 0.1, "rate": 0.5}}', '{"Tanh": {}, "Tanh": {}}'])
def test_a_key_that_stands_twice_is_refused(text):
    with pytest.raises(ValueError, match=r"from_json: '(rate|Tanh)' stands twice in one object"):
        fn.from_json(text)
